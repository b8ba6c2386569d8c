const fs = require("node:fs");

const lines = fs.readFileSync("input.txt", "utf8").trimEnd().split("\n");
fs.writeFileSync("output.txt", lines.map((line, index) => `${index + 1}: ${line}\n`).join(""));
console.log(`${lines.length} lines`);
