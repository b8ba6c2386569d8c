type Matrix = readonly (readonly number[])[];

function product(left: Matrix, right: Matrix): Matrix {
  const dot = (row: readonly number[], column: number): number =>
    row.reduce((sum, value, index) => sum + value * right[index][column], 0);
  return left.map((row) => right[0].map((_, column) => dot(row, column)));
}

const answer = product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]]);
answer.forEach((row) => console.log(row.join(" ")));

let power: Matrix = [[1, 0], [0, 1]];
for (let count = 0; count < 70; count++) power = product(power, [[1, 1], [1, 0]]);
console.log(`fibonacci(70) = ${power[0][1]}`);
