from itertools import count

for number in count(1):
    print("line", number)
