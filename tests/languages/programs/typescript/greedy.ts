const blocks: Float64Array[] = [];
for (;;) blocks.push(new Float64Array(2 << 20).fill(0.5));
