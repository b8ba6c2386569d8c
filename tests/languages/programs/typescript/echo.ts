import { argv, stdin } from "node:process";
import { createInterface } from "node:readline";

argv.slice(2).forEach((argument: string, index: number) => console.log(`argument ${index + 1}: [${argument}]`));

let number = 0;
createInterface({ input: stdin }).on("line", (line: string) => console.log(`line ${++number}: [${line}]`));
