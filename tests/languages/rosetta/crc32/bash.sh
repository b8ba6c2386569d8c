# Bytes, not characters.
LC_ALL=C

crc32() {
  local text=$1 crc=$((0xffffffff)) index bit byte
  for ((index = 0; index < ${#text}; index++)); do
    printf -v byte %d "'${text:index:1}"
    ((crc ^= byte & 0xff))
    for ((bit = 0; bit < 8; bit++)); do
      ((crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0)))
    done
  done
  printf '%08x\n' $((crc ^ 0xffffffff))
}

while IFS= read -r line; do
  crc32 "$line"
done
