const blocks: Uint8Array[] = [];
for (;;) blocks.push(new Uint8Array(16 << 20).fill(1));
