function distance(source: string, target: string): number {
  const rows: number[][] = [Array.from({ length: target.length + 1 }, (_, column) => column)];
  for (const [row, wanted] of [...source].entries()) {
    const above = rows[row];
    const current = [row + 1];
    for (const [column, found] of [...target].entries()) {
      current.push(Math.min(above[column] + (wanted === found ? 0 : 1), above[column + 1] + 1, current[column] + 1));
    }
    rows.push(current);
  }
  return rows[source.length][target.length];
}

for (const line of (await Bun.stdin.text()).trimEnd().split("\n")) {
  const [source, target] = line.split(" ");
  console.log(`${source} ${target} ${distance(source, target)}`);
}
