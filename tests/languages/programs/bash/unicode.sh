greeting="Grüße, 世界 🌍"
echo "$greeting"
echo "${#greeting} code points"
echo "$greeting" > "grüße 世界.txt"
