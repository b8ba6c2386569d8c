pairs <- read.table(file("stdin"), col.names = c("source", "target"))
cat(sprintf("%s %s %d\n", pairs$source, pairs$target, mapply(adist, pairs$source, pairs$target)), sep = "")
