# The grid moved by so many rows and columns, around the edges.
moved <- function(grid, down, right) {
  rows <- (seq_len(nrow(grid)) - 1 + down) %% nrow(grid) + 1
  columns <- (seq_len(ncol(grid)) - 1 + right) %% ncol(grid) + 1
  grid[rows, columns]
}

step <- function(grid) {
  around <- -grid
  for (down in -1:1) for (right in -1:1) around <- around + moved(grid, down, right)
  around == 3 | (around == 2 & grid)
}

grid <- do.call(rbind, strsplit(readLines("stdin"), "")) == "#"
for (generation in 1:12) grid <- step(grid)
writeLines(apply(ifelse(grid, "#", "."), 1, paste, collapse = ""))
