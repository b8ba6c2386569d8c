import { exit } from "node:process";

console.log("leaving");
console.error("so long");
exit(7);
