<?php
function divide(int $dividend, int $divisor): float
{
    if ($divisor === 0) {
        throw new InvalidArgumentException('boom');
    }
    return $dividend / $divisor;
}

echo "before\n";
divide(1, 0);
echo "after\n";
