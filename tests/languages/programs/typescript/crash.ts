function divide(dividend: number, divisor: number): number {
  if (divisor === 0) throw new RangeError("boom");
  return dividend / divisor;
}

console.log("before");
divide(1, 0);
console.log("after");
