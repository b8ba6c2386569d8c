<?php
while (($line = fgets(STDIN)) !== false) {
    $characters = preg_split('//u', rtrim($line, "\n"), -1, PREG_SPLIT_NO_EMPTY);
    echo implode(array_reverse($characters)), "\n";
}
