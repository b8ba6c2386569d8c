arguments <- commandArgs(trailingOnly = TRUE)
cat(sprintf("argument %d: [%s]\n", seq_along(arguments), arguments), sep = "")
lines <- readLines("stdin", warn = FALSE)
cat(sprintf("line %d: [%s]\n", seq_along(lines), lines), sep = "")
