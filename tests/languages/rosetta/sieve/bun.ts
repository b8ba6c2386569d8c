const limit = 100_000;

function* primesBelow(limit: number): Generator<number> {
  const composite = new Uint8Array(limit);
  for (let number = 2; number < limit; number++) {
    if (composite[number]) continue;
    yield number;
    for (let multiple = number * number; multiple < limit; multiple += number) composite[multiple] = 1;
  }
}

const primes = [...primesBelow(limit)];
console.log(primes.filter((prime) => prime < 100).join(" "));
console.log(`${primes.length} primes below ${limit}, the last is ${primes.at(-1)}`);
