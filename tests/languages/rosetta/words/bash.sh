declare -A counts

while read -r -a words; do
  for word in "${words[@]}"; do
    word=${word,,}
    while [[ $word =~ ([a-z]+)(.*) ]]; do
      ((++counts[${BASH_REMATCH[1]}]))
      word=${BASH_REMATCH[2]}
    done
  done
done

for word in "${!counts[@]}"; do
  echo "${counts[$word]} $word"
done | sort -k1,1nr -k2 | head -n 10
