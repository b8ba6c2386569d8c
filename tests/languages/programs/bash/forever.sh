echo "started"
while :; do :; done
