<?php
const LIMIT = 100_000;

$isPrime = array_fill(2, LIMIT - 2, true);
for ($candidate = 2; $candidate ** 2 < LIMIT; $candidate++) {
    if ($isPrime[$candidate]) {
        for ($multiple = $candidate ** 2; $multiple < LIMIT; $multiple += $candidate) {
            $isPrime[$multiple] = false;
        }
    }
}
$primes = array_keys($isPrime, true);

echo implode(' ', array_filter($primes, fn ($prime) => $prime < 100)), "\n";
printf("%d primes below %d, the last is %d\n", count($primes), LIMIT, end($primes));
