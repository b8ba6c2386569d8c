set -euo pipefail

mapfile -t lines < input.txt
for index in "${!lines[@]}"; do
  echo "$((index + 1)): ${lines[index]}"
done > output.txt
echo "${#lines[@]} lines"
