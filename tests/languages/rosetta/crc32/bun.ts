const lines = (await Bun.stdin.text()).trimEnd().split("\n");
for (const line of lines) console.log(Bun.hash.crc32(line).toString(16).padStart(8, "0"));
