# Many writers that ignore the pipe's end, on both streams.
trap '' PIPE TERM INT HUP
for i in 1 2 3 4 5 6 7 8; do
  (while :; do head -c 100000000 /dev/zero; done) &
  (while :; do head -c 100000000 /dev/zero >&2; done) 2>&2 &
done
wait
echo ESCAPED
