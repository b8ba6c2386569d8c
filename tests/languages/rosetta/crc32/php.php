<?php
foreach (file('php://stdin', FILE_IGNORE_NEW_LINES) as $line) {
    echo hash('crc32b', $line), "\n";
}
