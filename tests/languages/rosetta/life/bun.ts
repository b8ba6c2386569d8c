const lines = (await Bun.stdin.text()).trimEnd().split("\n");
const height = lines.length;
const width = lines[0].length;

// The cells that live, as row * width + column.
let living = new Set(lines.flatMap((line, row) => [...line].flatMap((cell, column) => (cell === "#" ? [row * width + column] : []))));

function neighbours(cell: number): number[] {
  const row = Math.floor(cell / width);
  const column = cell % width;
  const around: number[] = [];
  for (const down of [height - 1, 0, 1]) {
    for (const right of [width - 1, 0, 1]) {
      if (down || right) around.push(((row + down) % height) * width + ((column + right) % width));
    }
  }
  return around;
}

for (let generation = 0; generation < 12; generation++) {
  const counts = new Map<number, number>();
  for (const cell of [...living].flatMap(neighbours)) counts.set(cell, (counts.get(cell) ?? 0) + 1);
  const next = [...counts].filter(([cell, count]) => count === 3 || (count === 2 && living.has(cell)));
  living = new Set(next.map(([cell]) => cell));
}

for (let row = 0; row < height; row++) {
  console.log(Array.from({ length: width }, (_, column) => (living.has(row * width + column) ? "#" : ".")).join(""));
}
