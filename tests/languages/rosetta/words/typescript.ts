import { readFileSync } from "node:fs";

const counts: Map<string, number> = new Map();
for (const [word] of readFileSync(0, "utf8").toLowerCase().matchAll(/[a-z]+/g)) {
  counts.set(word, (counts.get(word) ?? 0) + 1);
}
const sorted = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
for (const [word, count] of sorted.slice(0, 10)) console.log(count, word);
