Bun.argv.slice(2).forEach((argument, index) => console.log(`argument ${index + 1}: [${argument}]`));

const lines = (await Bun.stdin.text()).split("\n");
lines.forEach((line, index) => console.log(`line ${index + 1}: [${line}]`));
