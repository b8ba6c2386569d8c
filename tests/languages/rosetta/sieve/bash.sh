limit=100000

for ((candidate = 2; candidate * candidate < limit; candidate++)); do
  if [[ -z ${composite[candidate]-} ]]; then
    for ((multiple = candidate * candidate; multiple < limit; multiple += candidate)); do
      composite[multiple]=1
    done
  fi
done

primes=()
small=()
for ((number = 2; number < limit; number++)); do
  if [[ -z ${composite[number]-} ]]; then
    primes+=("$number")
    ((number < 100)) && small+=("$number")
  fi
done

echo "${small[*]}"
echo "${#primes[@]} primes below $limit, the last is ${primes[-1]}"
