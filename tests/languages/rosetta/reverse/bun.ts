for await (const line of console) console.log(Array.from(line).reverse().join(""));
