LIMIT = 100_000

is_prime = [True] * LIMIT
is_prime[0] = is_prime[1] = False
for candidate in range(2, int(LIMIT**0.5) + 1):
    if is_prime[candidate]:
        is_prime[candidate * candidate :: candidate] = [False] * len(range(candidate * candidate, LIMIT, candidate))
primes = [number for number, prime in enumerate(is_prime) if prime]

print(*(prime for prime in primes if prime < 100))
print(f"{len(primes)} primes below {LIMIT}, the last is {primes[-1]}")
