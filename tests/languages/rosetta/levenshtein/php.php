<?php
foreach (file('php://stdin', FILE_IGNORE_NEW_LINES) as $line) {
    [$source, $target] = explode(' ', $line);
    echo $line, ' ', levenshtein($source, $target), "\n";
}
