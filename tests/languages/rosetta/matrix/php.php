<?php
function product(array $left, array $right): array
{
    $dot = fn (array $row, array $column) => array_sum(array_map(fn ($a, $b) => $a * $b, $row, $column));
    $result = [];
    foreach ($left as $row) {
        $line = [];
        foreach (array_keys($right[0]) as $column) {
            $line[] = $dot($row, array_column($right, $column));
        }
        $result[] = $line;
    }
    return $result;
}

foreach (product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]]) as $row) {
    echo implode(' ', $row), "\n";
}

$power = [[1, 0], [0, 1]];
for ($count = 0; $count < 70; $count++) {
    $power = product($power, [[1, 1], [1, 0]]);
}
echo "fibonacci(70) = {$power[0][1]}\n";
