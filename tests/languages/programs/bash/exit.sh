echo "leaving"
echo "so long" >&2
exit 7
