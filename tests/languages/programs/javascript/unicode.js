const fs = require("node:fs");

const greeting = "Grüße, 世界 🌍";
console.log(greeting);
console.log(`${[...greeting].length} code points`);
fs.writeFileSync("grüße 世界.txt", `${greeting}\n`);
