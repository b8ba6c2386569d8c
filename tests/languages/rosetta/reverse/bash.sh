while IFS= read -r line; do
  reversed=
  for ((index = ${#line} - 1; index >= 0; index--)); do
    reversed+=${line:index:1}
  done
  echo "$reversed"
done
