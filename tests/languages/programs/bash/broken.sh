main() {
  echo "this is never printed"
  for number in 1 2 3; fi  # broken here
}
main
