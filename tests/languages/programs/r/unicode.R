greeting <- "Grüße, 世界 🌍"
cat(greeting, "\n", sep = "")
cat(nchar(greeting), "code points\n")
writeLines(greeting, "grüße 世界.txt")
