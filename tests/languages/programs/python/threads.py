from concurrent.futures import ThreadPoolExecutor

WORKERS = 4
LIMIT = 100_000


def sum_of_squares(first):
    return sum(n * n for n in range(first, LIMIT + 1, WORKERS))


with ThreadPoolExecutor(WORKERS) as pool:
    parts = list(pool.map(sum_of_squares, range(1, WORKERS + 1)))
print(f"{len(parts)} workers, total {sum(parts)}")
