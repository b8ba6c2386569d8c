import { once } from "node:events";
import { stdout } from "node:process";

async function main(): Promise<never> {
  for (let number = 1; ; number++) {
    // Who does not wait for the reader keeps everything in memory.
    if (!stdout.write(`line ${number}\n`)) await once(stdout, "drain");
  }
}

main();
