<?php
function solutions(int $size, array $placed = []): int
{
    $row = count($placed);
    if ($row === $size) {
        return 1;
    }
    $found = 0;
    for ($column = 0; $column < $size; $column++) {
        foreach ($placed as $above => $other) {
            if ($other === $column || abs($other - $column) === $row - $above) {
                continue 2;
            }
        }
        $found += solutions($size, [...$placed, $column]);
    }
    return $found;
}

foreach (range(1, 8) as $size) {
    echo "$size queens: ", solutions($size), "\n";
}
