# Many writers that ignore the pipe's end and every polite signal.
trap '' PIPE TERM INT HUP
for i in 1 2 3 4 5 6 7 8; do
  (while :; do head -c 100000000 /dev/zero; done) &
done
wait
echo ESCAPED
