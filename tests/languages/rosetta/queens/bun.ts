// Sets of columns and diagonals are bits.
function solutions(size: number, columns = 0, rising = 0, falling = 0): number {
  const all = (1 << size) - 1;
  if (columns === all) return 1;
  let found = 0;
  for (let free = all & ~(columns | rising | falling); free; free &= free - 1) {
    const bit = free & -free;
    found += solutions(size, columns | bit, (rising | bit) << 1, (falling | bit) >> 1);
  }
  return found;
}

for (let size = 1; size <= 8; size++) console.log(`${size} queens: ${solutions(size)}`);
