import { readFileSync } from "node:fs";

type Grid = boolean[][];

const AROUND: [number, number][] = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 1], [1, -1], [1, 0], [1, 1]];

function step(grid: Grid): Grid {
  const height = grid.length;
  const width = grid[0].length;

  function neighbours(row: number, column: number): number {
    return AROUND.filter(
      ([down, right]) => grid[(row + down + height) % height][(column + right + width) % width],
    ).length;
  }

  return grid.map((line, row) =>
    line.map((alive, column) => {
      const around = neighbours(row, column);
      return around === 3 || (around === 2 && alive);
    }),
  );
}

const lines: string[] = readFileSync(0, "utf8").trimEnd().split("\n");
let grid: Grid = lines.map((line) => [...line].map((character) => character === "#"));
for (let generation = 0; generation < 12; generation++) grid = step(grid);
for (const row of grid) console.log(row.map((alive) => (alive ? "#" : ".")).join(""));
