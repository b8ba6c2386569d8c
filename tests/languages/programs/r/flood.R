number <- 0
repeat {
  number <- number + 1
  cat(sprintf("line %d\n", number))
}
