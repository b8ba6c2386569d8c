# The children of each node, by its key.
declare -A left right
root=

insert() {
  local key=$1 node=$root
  if [[ -z $root ]]; then
    root=$key
    return
  fi
  while :; do
    local -n side=right
    ((key < node)) && local -n side=left
    if [[ -z ${side[$node]-} ]]; then
      side[$node]=$key
      return
    fi
    node=${side[$node]}
  done
}

in_order() {
  [[ -n $1 ]] || return 0
  in_order "${left[$1]-}"
  echo -n " $1"
  in_order "${right[$1]-}"
}

pre_order() {
  [[ -n $1 ]] || return 0
  echo -n " $1"
  pre_order "${left[$1]-}"
  pre_order "${right[$1]-}"
}

height() {
  [[ -n $1 ]] || { echo 0; return; }
  local below_left below_right
  below_left=$(height "${left[$1]-}")
  below_right=$(height "${right[$1]-}")
  echo $((1 + (below_left > below_right ? below_left : below_right)))
}

for key in 50 30 70 20 40 60 80 35 45 65 63; do
  insert "$key"
done
echo "in order:$(in_order "$root")"
echo "pre-order:$(pre_order "$root")"
echo "height: $(height "$root")"
