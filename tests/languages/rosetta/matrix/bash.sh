# A matrix is a list of rows; "product LEFT RIGHT RESULT" takes their names.
product() {
  local -n left=$1 right=$2 result=$3
  local row column index sum a line
  local rows=()
  for row in "${left[@]}"; do
    read -r -a a <<< "$row"
    line=()
    for ((column = 0; column < $(wc -w <<< "${right[0]}"); column++)); do
      sum=0
      for index in "${!a[@]}"; do
        read -r -a b <<< "${right[index]}"
        ((sum += a[index] * b[column]))
      done
      line+=("$sum")
    done
    rows+=("${line[*]}")
  done
  result=("${rows[@]}")
}

first=("1 2 3" "4 5 6")
second=("7 8" "9 10" "11 12")
product first second answer
printf '%s\n' "${answer[@]}"

step=("1 1" "1 0")
power=("1 0" "0 1")
for ((count = 0; count < 70; count++)); do
  product power step next
  power=("${next[@]}")
done
read -r _ fibonacci <<< "${power[0]}"
echo "fibonacci(70) = $fibonacci"
