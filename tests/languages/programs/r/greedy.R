blocks <- list()
repeat blocks[[length(blocks) + 1]] <- rep(1.5, 2^21)
