const { Worker, isMainThread, parentPort, workerData } = require("node:worker_threads");

const WORKERS = 4;
const LIMIT = 100_000;

function sumOfSquares(first) {
  let sum = 0;
  for (let n = first; n <= LIMIT; n += WORKERS) sum += n * n;
  return sum;
}

async function main() {
  const parts = await Promise.all(
    Array.from({ length: WORKERS }, (_, index) => {
      const worker = new Worker(__filename, { workerData: index + 1 });
      return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    }),
  );
  const total = parts.reduce((left, right) => left + right);
  console.log(`${parts.length} workers, total ${total}`);
}

if (isMainThread) main();
else parentPort.postMessage(sumOfSquares(workerData));
