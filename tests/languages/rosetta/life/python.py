import sys


def step(grid):
    height, width = len(grid), len(grid[0])

    def neighbours(row, column):
        return sum(
            grid[(row + down) % height][(column + right) % width]
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if down or right
        )

    def lives(row, column):
        around = neighbours(row, column)
        return around == 3 or (around == 2 and grid[row][column])

    return [[lives(row, column) for column in range(width)] for row in range(height)]


grid = [[cell == "#" for cell in line.rstrip()] for line in sys.stdin]
for _ in range(12):
    grid = step(grid)
for row in grid:
    print("".join("#" if alive else "." for alive in row))
