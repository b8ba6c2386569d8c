# Sets of columns and diagonals are bits.
place() {
  local columns=$1 rising=$2 falling=$3 free bit
  if ((columns == all)); then
    ((++found))
    return
  fi
  ((free = all & ~(columns | rising | falling)))
  while ((free)); do
    ((bit = free & -free, free ^= bit))
    place $((columns | bit)) $(((rising | bit) << 1)) $(((falling | bit) >> 1))
  done
}

for size in {1..8}; do
  all=$(((1 << size) - 1))
  found=0
  place 0 0 0
  echo "$size queens: $found"
done
