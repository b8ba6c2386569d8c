set -euo pipefail

divide() {
  echo $(($1 / ${2:?boom}))
}

echo "before"
divide 1 ""
echo "after"
