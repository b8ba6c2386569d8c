<?php
echo "started\n";
while (true) {
    sleep(1);
}
