import sys
import zlib

for line in sys.stdin.buffer:
    print(f"{zlib.crc32(line.rstrip()):08x}")
