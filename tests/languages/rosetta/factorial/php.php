<?php
// A big number is an array of groups of nine digits, the least first.
const BASE = 1_000_000_000;

function factorial(int $number): string
{
    $groups = [1];
    for ($factor = 2; $factor <= $number; $factor++) {
        $carry = 0;
        foreach ($groups as &$group) {
            $carry += $group * $factor;
            $group = $carry % BASE;
            $carry = intdiv($carry, BASE);
        }
        unset($group);
        if ($carry > 0) {
            $groups[] = $carry;
        }
    }
    $text = (string) array_pop($groups);
    foreach (array_reverse($groups) as $group) {
        $text .= sprintf('%09d', $group);
    }
    return $text;
}

foreach ([5, 25, 50] as $number) {
    echo "$number! = ", factorial($number), "\n";
}
