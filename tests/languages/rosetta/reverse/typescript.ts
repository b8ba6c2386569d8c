import { stdin } from "node:process";
import { createInterface } from "node:readline";

const reverse = (text: string): string => [...text].reverse().join("");

createInterface({ input: stdin }).on("line", (line: string) => console.log(reverse(line)));
