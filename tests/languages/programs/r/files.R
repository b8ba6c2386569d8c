lines <- readLines("input.txt")
writeLines(sprintf("%d: %s", seq_along(lines), lines), "output.txt")
cat(length(lines), "lines\n")
