sort -t, -k2,2 -k3,3nr -k1,1 | while IFS=, read -r name department salary; do
  printf '%-10s %-8s %6d\n' "$department" "$name" "$salary"
done
