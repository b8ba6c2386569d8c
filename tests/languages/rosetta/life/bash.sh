mapfile -t grid
height=${#grid[@]}
width=${#grid[0]}

step() {
  local next=() row column line around down right
  for ((row = 0; row < height; row++)); do
    line=
    for ((column = 0; column < width; column++)); do
      around=
      for down in -1 0 1; do
        for right in -1 0 1; do
          ((down || right)) || continue
          around+=${grid[(row + down + height) % height]:(column + right + width) % width:1}
        done
      done
      case "${around//./}${grid[row]:column:1}" in
        '###.' | '####' | '###') line+='#' ;;
        *) line+='.' ;;
      esac
    done
    next+=("$line")
  done
  grid=("${next[@]}")
}

for ((generation = 0; generation < 12; generation++)); do
  step
done
printf '%s\n' "${grid[@]}"
