function factorial(number: number): bigint {
  let product = 1n;
  for (let factor = 2n; factor <= number; factor++) product *= factor;
  return product;
}

for (const number of [5, 25, 50]) console.log(`${number}! = ${factorial(number)}`);
