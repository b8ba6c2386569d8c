cat("started\n")
repeat Sys.sleep(1)
