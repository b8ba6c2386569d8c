const greeting = "Grüße, 世界 🌍";
console.log(greeting);
console.log(`${[...greeting].length} code points`);
await Bun.write("grüße 世界.txt", `${greeting}\n`);
