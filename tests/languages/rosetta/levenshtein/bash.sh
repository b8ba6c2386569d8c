distance() {
  local source=$1 target=$2 row column best
  local previous current
  for ((column = 0; column <= ${#target}; column++)); do
    previous[column]=$column
  done
  for ((row = 1; row <= ${#source}; row++)); do
    current=("$row")
    for ((column = 1; column <= ${#target}; column++)); do
      best=${previous[column - 1]}
      [[ ${source:row-1:1} == "${target:column-1:1}" ]] || ((++best))
      ((previous[column] + 1 < best)) && ((best = previous[column] + 1))
      ((current[column - 1] + 1 < best)) && ((best = current[column - 1] + 1))
      current[column]=$best
    done
    previous=("${current[@]}")
  done
  echo "${previous[-1]}"
}

while read -r source target; do
  echo "$source $target $(distance "$source" "$target")"
done
