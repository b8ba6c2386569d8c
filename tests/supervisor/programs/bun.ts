// What programs for Bun do: its own interfaces and those of Node.js, workers, children, servers on loopback, SQLite.
import { Database } from "bun:sqlite";
import { mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from "node:fs";
import os from "node:os";
import path from "node:path";

function need(value: unknown, what: string): asserts value {
  if (!value) throw new Error(what);
}

const place = mkdtempSync(path.join(os.tmpdir(), "bun"));
const name = path.join(place, "a");
await Bun.write(name, "x".repeat(100_000));
need((await Bun.file(name).text()).length === 100_000, "file");
need(Bun.gunzipSync(Bun.gzipSync(new Uint8Array(1000))).length === 1000, "gzip");
renameSync(name, name + "2");
symlinkSync("a2", path.join(place, "l"));
need(readdirSync(place).length === 2, "list");
need((await Bun.file("/etc/passwd").text()).length > 0, "passwd");

const database = new Database(path.join(place, "d.sqlite"));
database.run("create table t (n integer)");
database.run("insert into t values (42)");
need((database.query("select n from t").get() as { n: number }).n === 42, "sqlite");
database.close();

const said = Bun.spawnSync(["sh", "-c", "ls / | wc -l"]);
need(said.success, "spawn");
const cat = Bun.spawn(["cat"], { stdin: "pipe" });
cat.stdin.write("x");
cat.stdin.end();
need((await new Response(cat.stdout).text()) === "x", "cat");
const sleeper = Bun.spawn(["sleep", "60"]);
sleeper.kill();
await sleeper.exited;
need((await Bun.$`echo hi`.text()) === "hi\n", "shell");

const source = URL.createObjectURL(new Blob(["postMessage(42)"], { type: "application/javascript" }));
const worker = new Worker(source);
need((await new Promise((done) => (worker.onmessage = (event) => done(event.data)))) === 42, "worker");
worker.terminate();

const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hi") });
need((await (await fetch(server.url)).text()) === "hi", "fetch");
server.stop(true);

process.once("SIGUSR2", () => {});
process.kill(process.pid, "SIGUSR2");
need(new Bun.CryptoHasher("sha256").update("x").digest("hex").length === 64, "hash");
let sum = 0;
for (let i = 0; i < 3_000_000; i++) sum += i % 7;
need(sum > 0 && Bun.nanoseconds() > 0, "sum");
Bun.gc(true);
rmSync(place, { recursive: true });
console.log("done");
