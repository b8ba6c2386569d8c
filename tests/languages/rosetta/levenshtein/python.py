import sys


def distance(source, target):
    previous = list(range(len(target) + 1))
    for row, wanted in enumerate(source, start=1):
        current = [row]
        for column, found in enumerate(target, start=1):
            replaced = previous[column - 1] + (wanted != found)
            current.append(min(replaced, previous[column] + 1, current[-1] + 1))
        previous = current
    return previous[-1]


for line in sys.stdin:
    source, target = line.split()
    print(source, target, distance(source, target))
