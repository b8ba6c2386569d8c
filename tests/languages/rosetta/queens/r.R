solutions <- function(size, placed = integer()) {
  row <- length(placed) + 1
  if (row > size) return(1)
  found <- 0
  for (column in seq_len(size)) {
    attacked <- placed == column | abs(placed - column) == row - seq_along(placed)
    if (!any(attacked)) found <- found + solutions(size, c(placed, column))
  }
  found
}

for (size in 1:8) cat(sprintf("%d queens: %d\n", size, solutions(size)))
