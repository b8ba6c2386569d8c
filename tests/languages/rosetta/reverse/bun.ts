const reverse = (text: string) => Array.from(text).reverse().join("");

const lines = (await Bun.stdin.text()).trimEnd().split("\n");
for (const line of lines) console.log(reverse(line));
