<?php
foreach (array_slice($argv, 1) as $index => $argument) {
    printf("argument %d: [%s]\n", $index + 1, $argument);
}
for ($number = 1; ($line = fgets(STDIN)) !== false; $number++) {
    printf("line %d: [%s]\n", $number, rtrim($line, "\n"));
}
