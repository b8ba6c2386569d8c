<?php
$greeting = 'Grüße, 世界 🌍';
echo $greeting, "\n";
echo preg_match_all('/./u', $greeting), " code points\n";
file_put_contents('grüße 世界.txt', "$greeting\n");
