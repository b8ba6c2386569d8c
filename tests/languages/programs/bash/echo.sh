number=0
for argument; do
  printf 'argument %d: [%s]\n' $((++number)) "$argument"
done
number=0
# The second test is for a last line without a newline.
while IFS= read -r line || [[ -n $line ]]; do
  printf 'line %d: [%s]\n' $((++number)) "$line"
done
