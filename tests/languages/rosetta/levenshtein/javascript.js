const fs = require("node:fs");

function distance(source, target) {
  let previous = Array.from({ length: target.length + 1 }, (_, index) => index);
  for (let row = 1; row <= source.length; row++) {
    const current = [row];
    for (let column = 1; column <= target.length; column++) {
      const replaced = previous[column - 1] + Number(source[row - 1] !== target[column - 1]);
      current.push(Math.min(replaced, previous[column] + 1, current[column - 1] + 1));
    }
    previous = current;
  }
  return previous.at(-1);
}

for (const line of fs.readFileSync(0, "utf8").trimEnd().split("\n")) {
  const [source, target] = line.split(" ");
  console.log(source, target, distance(source, target));
}
