text <- tolower(readLines("stdin"))
words <- unlist(regmatches(text, gregexpr("[a-z]+", text)))
counts <- table(words)
sorted <- counts[order(-counts, names(counts), method = "radix")]
cat(sprintf("%d %s\n", head(sorted, 10), names(head(sorted, 10))), sep = "")
