reverse <- function(text) intToUtf8(rev(utf8ToInt(text)))

lines <- readLines("stdin", encoding = "UTF-8")
writeLines(vapply(lines, reverse, ""))
