const factorial = (number) => (number === 0n ? 1n : number * factorial(number - 1n));

for (const number of [5n, 25n, 50n]) console.log(`${number}! = ${factorial(number)}`);
