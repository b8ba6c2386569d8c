workers=4
limit=100000

sum_of_squares() {
  local sum=0 n
  for ((n = $1; n <= limit; n += workers)); do
    ((sum += n * n))
  done
  echo "$sum"
}

total=0
count=0
while read -r part; do
  ((total += part))
  ((++count))
done < <(
  for ((first = 1; first <= workers; first++)); do
    sum_of_squares "$first" &
  done
  wait
)
echo "$count workers, total $total"
