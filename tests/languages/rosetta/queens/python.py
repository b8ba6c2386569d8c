def solutions(size, row=0, columns=frozenset(), rising=frozenset(), falling=frozenset()):
    if row == size:
        return 1
    return sum(
        solutions(size, row + 1, columns | {column}, rising | {row + column}, falling | {row - column})
        for column in range(size)
        if column not in columns and row + column not in rising and row - column not in falling
    )


for size in range(1, 9):
    print(f"{size} queens: {solutions(size)}")
