library(parallel)

workers <- 4
limit <- 100000

sum_of_squares <- function(first) sum(seq(first, limit, by = workers)^2)

parts <- mclapply(seq_len(workers), sum_of_squares, mc.cores = workers)
cat(sprintf("%d workers, total %.0f\n", length(parts), Reduce(`+`, parts)))
