interface Board {
  readonly columns: ReadonlySet<number>;
  readonly rising: ReadonlySet<number>;
  readonly falling: ReadonlySet<number>;
}

const EMPTY: Board = { columns: new Set(), rising: new Set(), falling: new Set() };

function solutions(size: number, row = 0, board: Board = EMPTY): number {
  if (row === size) return 1;
  let found = 0;
  for (let column = 0; column < size; column++) {
    if (board.columns.has(column) || board.rising.has(row + column) || board.falling.has(row - column)) continue;
    found += solutions(size, row + 1, {
      columns: new Set(board.columns).add(column),
      rising: new Set(board.rising).add(row + column),
      falling: new Set(board.falling).add(row - column),
    });
  }
  return found;
}

for (let size = 1; size <= 8; size++) console.log(`${size} queens: ${solutions(size)}`);
