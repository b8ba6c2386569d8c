main <- function() {
  cat("this is never printed\n")
  answer <- forty two # broken here
  print(answer)
}
main()
