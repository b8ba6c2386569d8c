import sys

print("leaving")
print("so long", file=sys.stderr)
sys.exit(7)
