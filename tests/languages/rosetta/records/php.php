<?php
$employees = [];
while (($row = fgetcsv(STDIN)) !== false) {
    $employees[] = $row;
}
usort($employees, fn ($a, $b) => [$a[1], (int) $b[2], $a[0]] <=> [$b[1], (int) $a[2], $b[0]]);
foreach ($employees as [$name, $department, $salary]) {
    printf("%-10s %-8s %6d\n", $department, $name, $salary);
}
