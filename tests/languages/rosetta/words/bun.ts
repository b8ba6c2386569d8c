const text = (await Bun.stdin.text()).toLowerCase();

const counts: Record<string, number> = {};
for (const [word] of text.matchAll(/[a-z]+/g)) counts[word] = (counts[word] ?? 0) + 1;

const sorted = Object.entries(counts).sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
for (const [word, count] of sorted.slice(0, 10)) console.log(`${count} ${word}`);
