const LIMIT = 100_000;

function sieve(limit: number): number[] {
  const isPrime = new Array<boolean>(limit).fill(true, 2);
  for (let candidate = 2; candidate * candidate < limit; candidate++) {
    if (!isPrime[candidate]) continue;
    for (let multiple = candidate * candidate; multiple < limit; multiple += candidate) isPrime[multiple] = false;
  }
  return [...isPrime.keys()].filter((number) => isPrime[number]);
}

const primes = sieve(LIMIT);
console.log(primes.filter((prime) => prime < 100).join(" "));
console.log(`${primes.length} primes below ${LIMIT}, the last is ${primes.at(-1)}`);
