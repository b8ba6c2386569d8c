const LIMIT = 100_000;

const isPrime = new Uint8Array(LIMIT).fill(1, 2);
for (let candidate = 2; candidate * candidate < LIMIT; candidate++) {
  if (!isPrime[candidate]) continue;
  for (let multiple = candidate * candidate; multiple < LIMIT; multiple += candidate) isPrime[multiple] = 0;
}
const primes = [...isPrime.keys()].filter((number) => isPrime[number]);

console.log(primes.filter((prime) => prime < 100).join(" "));
console.log(`${primes.length} primes below ${LIMIT}, the last is ${primes.at(-1)}`);
