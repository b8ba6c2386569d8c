<?php
echo "leaving\n";
fwrite(STDERR, "so long\n");
exit(7);
