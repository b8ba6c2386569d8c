for await (const line of console) console.log(Bun.hash.crc32(line).toString(16).padStart(8, "0"));
