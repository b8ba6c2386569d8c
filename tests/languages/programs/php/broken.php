<?php
echo "this is never printed\n";
$answer = = 42; // broken here
echo $answer;
