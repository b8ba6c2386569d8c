# A big number is a vector of groups of four digits, the least first: doubles are exact below 2^53.
base <- 10000

times <- function(groups, factor) {
  groups <- c(groups * factor, 0)
  for (index in seq_len(length(groups) - 1)) {
    groups[index + 1] <- groups[index + 1] + groups[index] %/% base
    groups[index] <- groups[index] %% base
  }
  if (tail(groups, 1) == 0) head(groups, -1) else groups
}

for (number in c(5, 25, 50)) {
  groups <- rev(Reduce(times, seq_len(number), 1))
  digits <- paste(c(sprintf("%.0f", groups[1]), sprintf("%04.0f", groups[-1])), collapse = "")
  cat(sprintf("%.0f! = %s\n", number, digits))
}
