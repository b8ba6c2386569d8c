import { readFileSync } from "node:fs";

const TABLE: Uint32Array = Uint32Array.from({ length: 256 }, (_, index) => {
  let entry = index;
  for (let bit = 0; bit < 8; bit++) entry = (entry >>> 1) ^ (entry & 1 ? 0xedb88320 : 0);
  return entry;
});

function crc32(text: string): string {
  const crc = new TextEncoder().encode(text).reduce((crc, byte) => (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff], ~0);
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

const lines: string[] = readFileSync(0, "utf8").replace(/\n$/, "").split("\n");
for (const line of lines) console.log(crc32(line));
