import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const WORKERS = 4;
const LIMIT = 100_000;

function sumOfSquares(first: number): number {
  let sum = 0;
  for (let n = first; n <= LIMIT; n += WORKERS) sum += n * n;
  return sum;
}

function inWorker(first: number): Promise<number> {
  const worker = new Worker(__filename, { workerData: first });
  return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
}

async function main(): Promise<void> {
  const parts = await Promise.all(Array.from({ length: WORKERS }, (_, index) => inWorker(index + 1)));
  const total = parts.reduce((left, right) => left + right);
  console.log(`${parts.length} workers, total ${total}`);
}

if (isMainThread) main();
else parentPort?.postMessage(sumOfSquares(workerData as number));
