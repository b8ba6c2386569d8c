const { once } = require("node:events");

async function main() {
  for (let number = 1; ; number++) {
    // Who does not wait for the reader keeps everything in memory.
    if (!process.stdout.write(`line ${number}\n`)) await once(process.stdout, "drain");
  }
}

main();
