<?php
$lines = file('input.txt', FILE_IGNORE_NEW_LINES);
$output = fopen('output.txt', 'w');
foreach ($lines as $index => $line) {
    fprintf($output, "%d: %s\n", $index + 1, $line);
}
fclose($output);
echo count($lines), " lines\n";
