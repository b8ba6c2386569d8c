const lines = (await Bun.file("input.txt").text()).trimEnd().split("\n");
await Bun.write("output.txt", lines.map((line, index) => `${index + 1}: ${line}\n`).join(""));
console.log(`${lines.length} lines`);
