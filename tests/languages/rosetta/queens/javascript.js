function solutions(size, placed = []) {
  if (placed.length === size) return 1;
  let found = 0;
  for (let column = 0; column < size; column++) {
    const attacked = placed.some(
      (other, row) => other === column || Math.abs(other - column) === placed.length - row,
    );
    if (!attacked) found += solutions(size, [...placed, column]);
  }
  return found;
}

for (let size = 1; size <= 8; size++) console.log(`${size} queens: ${solutions(size)}`);
