const fs = require("node:fs");

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = (byte >>> 1) ^ (byte & 1 ? 0xedb88320 : 0);
  return byte;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

const lines = fs.readFileSync(0, "utf8").replace(/\n$/, "").split("\n");
for (const line of lines) console.log(crc32(Buffer.from(line)).toString(16).padStart(8, "0"));
