<?php
for ($number = 1; ; $number++) {
    echo "line $number\n";
}
