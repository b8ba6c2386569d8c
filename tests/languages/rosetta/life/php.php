<?php
function step(array $grid): array
{
    $height = count($grid);
    $width = strlen($grid[0]);
    $next = $grid;
    for ($row = 0; $row < $height; $row++) {
        for ($column = 0; $column < $width; $column++) {
            $around = 0;
            foreach ([-1, 0, 1] as $down) {
                foreach ([-1, 0, 1] as $right) {
                    if ($down !== 0 || $right !== 0) {
                        $y = ($row + $down + $height) % $height;
                        $x = ($column + $right + $width) % $width;
                        $around += (int) ($grid[$y][$x] === '#');
                    }
                }
            }
            $lives = $around === 3 || ($around === 2 && $grid[$row][$column] === '#');
            $next[$row][$column] = $lives ? '#' : '.';
        }
    }
    return $next;
}

$grid = file('php://stdin', FILE_IGNORE_NEW_LINES);
for ($generation = 0; $generation < 12; $generation++) {
    $grid = step($grid);
}
echo implode("\n", $grid), "\n";
