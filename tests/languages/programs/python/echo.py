import sys

for number, argument in enumerate(sys.argv[1:], start=1):
    print(f"argument {number}: [{argument}]")
for number, line in enumerate(sys.stdin, start=1):
    print(f"line {number}: [{line.rstrip()}]")
