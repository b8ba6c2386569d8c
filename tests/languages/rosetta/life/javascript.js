const fs = require("node:fs");

function step(grid) {
  const height = grid.length;
  const width = grid[0].length;
  const cell = (row, column) => grid[(row + height) % height][(column + width) % width];

  return grid.map((line, row) =>
    line.map((alive, column) => {
      let around = -alive;
      for (const down of [-1, 0, 1]) for (const right of [-1, 0, 1]) around += cell(row + down, column + right);
      return Number(around === 3 || (around === 2 && alive === 1));
    }),
  );
}

const lines = fs.readFileSync(0, "utf8").trimEnd().split("\n");
let grid = lines.map((line) => [...line].map((character) => Number(character === "#")));
for (let generation = 0; generation < 12; generation++) grid = step(grid);
for (const row of grid) console.log(row.map((alive) => (alive ? "#" : ".")).join(""));
