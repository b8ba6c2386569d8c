<?php
// PHP has no threads on the command line; it has processes.
const WORKERS = 4;
const LIMIT = 100_000;

function sumOfSquares(int $first): int
{
    $sum = 0;
    for ($n = $first; $n <= LIMIT; $n += WORKERS) {
        $sum += $n * $n;
    }
    return $sum;
}

$parts = [];
for ($first = 1; $first <= WORKERS; $first++) {
    [$ours, $theirs] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    if (pcntl_fork() === 0) {
        fwrite($theirs, (string) sumOfSquares($first));
        exit(0);
    }
    fclose($theirs);
    $parts[] = $ours;
}
$total = 0;
foreach ($parts as $part) {
    $total += (int) stream_get_contents($part);
    pcntl_wait($status);
}
printf("%d workers, total %d\n", count($parts), $total);
