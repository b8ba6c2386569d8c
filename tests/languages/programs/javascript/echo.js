const readline = require("node:readline");

process.argv.slice(2).forEach((argument, index) => console.log(`argument ${index + 1}: [${argument}]`));

let number = 0;
readline.createInterface({ input: process.stdin }).on("line", (line) => console.log(`line ${++number}: [${line}]`));
