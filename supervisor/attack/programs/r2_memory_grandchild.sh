# The program itself goes on and ends well; that a grandchild died of memory has to be told all the same.
python3 -c 'x = bytearray(4 << 30)' 2>/dev/null
exit 0
