<?php
preg_match_all('/[a-z]+/', strtolower(stream_get_contents(STDIN)), $found);
$counts = array_count_values($found[0]);
uksort($counts, fn ($a, $b) => $counts[$b] <=> $counts[$a] ?: $a <=> $b);
foreach (array_slice($counts, 0, 10) as $word => $count) {
    echo "$count $word\n";
}
