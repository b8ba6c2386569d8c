def product(left, right):
    columns = list(zip(*right))
    return [[sum(a * b for a, b in zip(row, column)) for column in columns] for row in left]


for row in product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]]):
    print(*row)

power = [[1, 0], [0, 1]]
for _ in range(70):
    power = product(power, [[1, 1], [1, 0]])
print("fibonacci(70) =", power[0][1])
