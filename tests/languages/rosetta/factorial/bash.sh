# A big number is an array of groups of nine digits, the least first.
factorial() {
  local number=$1 factor index carry digits=(1)
  for ((factor = 2; factor <= number; factor++)); do
    carry=0
    for index in "${!digits[@]}"; do
      ((carry += digits[index] * factor, digits[index] = carry % 1000000000, carry /= 1000000000))
    done
    ((carry)) && digits+=("$carry")
  done
  local text=${digits[-1]}
  for ((index = ${#digits[@]} - 2; index >= 0; index--)); do
    printf -v text '%s%09d' "$text" "${digits[index]}"
  done
  echo "$number! = $text"
}

for number in 5 25 50; do
  factorial "$number"
done
