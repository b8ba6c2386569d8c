divide <- function(dividend, divisor) {
  if (divisor == 0) stop("boom")
  dividend / divisor
}

cat("before\n")
divide(1, 0)
cat("after\n")
