import { readFileSync, writeFileSync } from "node:fs";

const lines: string[] = readFileSync("input.txt", "utf8").trimEnd().split("\n");
writeFileSync("output.txt", lines.map((line, index) => `${index + 1}: ${line}\n`).join(""));
console.log(`${lines.length} lines`);
