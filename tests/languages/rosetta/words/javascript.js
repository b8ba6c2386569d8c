const fs = require("node:fs");

const counts = new Map();
for (const word of fs.readFileSync(0, "utf8").toLowerCase().match(/[a-z]+/g)) {
  counts.set(word, (counts.get(word) ?? 0) + 1);
}
const sorted = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
for (const [word, count] of sorted.slice(0, 10)) console.log(count, word);
