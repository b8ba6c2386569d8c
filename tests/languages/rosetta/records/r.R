employees <- read.csv(file("stdin"), header = FALSE, col.names = c("name", "department", "salary"))
sorted <- employees[order(employees$department, -employees$salary, employees$name), ]
cat(sprintf("%-10s %-8s %6d\n", sorted$department, sorted$name, sorted$salary), sep = "")
