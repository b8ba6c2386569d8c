const fs = require("node:fs");

const lines = fs.readFileSync(0, "utf8").trimEnd().split("\n");
for (const line of lines) console.log([...line].reverse().join(""));
