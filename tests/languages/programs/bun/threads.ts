declare const self: Worker;

const WORKERS = 4;
const LIMIT = 100_000;

function sumOfSquares(first: number): number {
  let sum = 0;
  for (let n = first; n <= LIMIT; n += WORKERS) sum += n * n;
  return sum;
}

function inWorker(first: number): Promise<number> {
  const worker = new Worker(import.meta.url);
  return new Promise((resolve, reject) => {
    worker.onmessage = (event) => {
      worker.terminate();
      resolve(event.data);
    };
    worker.onerror = reject;
    worker.postMessage(first);
  });
}

if (Bun.isMainThread) {
  const parts = await Promise.all(Array.from({ length: WORKERS }, (_, index) => inWorker(index + 1)));
  const total = parts.reduce((left, right) => left + right);
  console.log(`${parts.length} workers, total ${total}`);
} else {
  self.onmessage = (event) => postMessage(sumOfSquares(event.data));
}
