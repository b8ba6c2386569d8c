Bun.argv.slice(2).forEach((argument, index) => console.log(`argument ${index + 1}: [${argument}]`));

let number = 0;
for await (const line of console) console.log(`line ${++number}: [${line}]`);
