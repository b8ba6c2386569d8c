for ((number = 1; ; number++)); do
  echo "line $number"
done
