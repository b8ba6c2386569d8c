import { writeFileSync } from "node:fs";

const greeting: string = "Grüße, 世界 🌍";
console.log(greeting);
console.log(`${[...greeting].length} code points`);
writeFileSync("grüße 世界.txt", `${greeting}\n`);
