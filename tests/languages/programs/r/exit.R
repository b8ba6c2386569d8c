cat("leaving\n")
message("so long")
quit(status = 7)
