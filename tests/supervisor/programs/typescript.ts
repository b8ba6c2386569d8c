// What programs in TypeScript do with Node.js: modules of both kinds, files, workers, children, servers on loopback.
import { execFileSync, spawn } from "node:child_process";
import { createHash, randomUUID } from "node:crypto";
import * as fs from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";
import { Worker } from "node:worker_threads";
import { gunzipSync, gzipSync } from "node:zlib";

const events = require("node:events") as typeof import("node:events");

enum Colour { Red = "red", Green = "green" }

interface Shape { readonly kind: "circle" | "square"; size: number }

class Box<T extends Shape> {
  #shapes: T[] = [];
  constructor(private readonly name: string) {}
  add(...shapes: T[]): this { this.#shapes.push(...shapes); return this; }
  get total(): number { return this.#shapes.reduce((sum, { size }) => sum + size, 0); }
  *[Symbol.iterator](): Generator<T> { yield* this.#shapes; }
  toString(): string { return `${this.name}: ${this.total}`; }
}

function need(value: unknown, what: string): asserts value { if (!value) throw new Error(what); }

async function files(place: string): Promise<void> {
  const name = path.join(place, "a");
  await writeFile(name, gzipSync("x".repeat(100_000)));
  need(gunzipSync(await readFile(name)).length === 100_000, "gzip");
  fs.renameSync(name, name + "2");
  fs.symlinkSync("a2", path.join(place, "l"));
  fs.chmodSync(name + "2", 0o600);
  need(fs.readdirSync(place).length === 2, "list");
  for await (const piece of fs.createReadStream("/etc/passwd")) need(piece.length > 0, "read");
  await rm(place, { recursive: true });
}

async function processes(): Promise<void> {
  need(execFileSync("ls", ["/"]).length > 0, "ls");
  const child = spawn("sleep", ["60"]);
  child.kill();
  await events.once(child, "exit");
  const worker = new Worker("require('worker_threads').parentPort.postMessage(42)", { eval: true });
  const [said] = await events.once(worker, "message");
  need(said === 42, "worker");
  process.once("SIGUSR2", () => {});
  process.kill(process.pid, "SIGUSR2");
}

async function network(): Promise<void> {
  const server = http.createServer((_request, reply) => void reply.end(JSON.stringify({ hi: true })));
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const answer = (await (await fetch(`http://127.0.0.1:${port}/`)).json()) as { hi: boolean };
  need(answer.hi, "fetch");
  server.closeAllConnections();
  server.close();
}

const box = new Box<Shape>("box").add({ kind: "circle", size: 1 }, { kind: "square", size: 2 });
need(`${box}` === "box: 3" && [...box].length === 2 && Colour.Red === "red", "types");
need(createHash("sha256").update(randomUUID()).digest("hex").length === 64, "hash");
need(os.cpus().length > 0 && __dirname.length > 0, "host");
const place = await mkdtemp(path.join(os.tmpdir(), "ts"));
await Promise.all([files(place), processes(), network()]);
const missing: Shape | undefined = [...box].find(({ size }) => size > 5);
console.log(missing?.kind ?? "done");
