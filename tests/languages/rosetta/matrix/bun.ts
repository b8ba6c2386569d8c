type Matrix = number[][];

function product(left: Matrix, right: Matrix): Matrix {
  const result: Matrix = left.map(() => right[0].map(() => 0));
  for (const [row, values] of left.entries()) {
    for (const [index, value] of values.entries()) {
      for (const [column, other] of right[index].entries()) result[row][column] += value * other;
    }
  }
  return result;
}

for (const row of product([[1, 2, 3], [4, 5, 6]], [[7, 8], [9, 10], [11, 12]])) console.log(row.join(" "));

const fibonacci = Array.from({ length: 70 }).reduce<Matrix>((power) => product(power, [[1, 1], [1, 0]]), [[1, 0], [0, 1]]);
console.log(`fibonacci(70) = ${fibonacci[0][1]}`);
