import { readFileSync } from "node:fs";

function distance(source: string, target: string): number {
  let previous: number[] = [...Array(target.length + 1).keys()];
  [...source].forEach((wanted, row) => {
    const current: number[] = [row + 1];
    [...target].forEach((found, column) => {
      const replaced = previous[column] + (wanted === found ? 0 : 1);
      current.push(Math.min(replaced, previous[column + 1] + 1, current[column] + 1));
    });
    previous = current;
  });
  return previous[target.length];
}

for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const [source, target] = line.split(" ");
  console.log(source, target, distance(source, target));
}
