console.log("leaving");
console.error("so long");
process.exit(7);
