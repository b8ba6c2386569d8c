// What Node.js programs do: files, workers, children, servers on loopback, streams, WebAssembly.
const child = require("child_process");
const crypto = require("crypto");
const dgram = require("dgram");
const dns = require("dns");
const fs = require("fs");
const http = require("http");
const net = require("net");
const os = require("os");
const path = require("path");
const stream = require("stream");
const util = require("util");
const zlib = require("zlib");
const { Worker } = require("worker_threads");

async function files(place) {
  const file = path.join(place, "a");
  fs.writeFileSync(file, "x".repeat(100000));
  fs.copyFileSync(file, file + "2");
  fs.renameSync(file + "2", file + "3");
  fs.symlinkSync("a", path.join(place, "l"));
  fs.chmodSync(file, 0o600);
  fs.utimesSync(file, 1, 1);
  fs.readdirSync(place, { withFileTypes: true });
  fs.truncateSync(file, 10);
  fs.realpathSync(place);
  await fs.promises.appendFile(file, "y");
  const packed = fs.createWriteStream(file + ".gz");
  await util.promisify(stream.pipeline)(fs.createReadStream(file), zlib.createGzip(), packed);
  try { fs.watch(place, () => {}).close(); } catch (error) { }
}

async function processes() {
  const code = "require('worker_threads').parentPort.postMessage(new SharedArrayBuffer(8))";
  await new Promise((done, fail) => {
    const worker = new Worker(code, { eval: true });
    worker.on("message", done);
    worker.on("error", fail);
  });
  child.execSync("ls / | wc -l");
  child.spawnSync(process.execPath, ["-e", "1"]);
  await util.promisify(child.execFile)("true");
}

async function network(place) {
  const server = http.createServer((request, reply) => reply.end("hi"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const at = { host: "127.0.0.1", port: server.address().port };
  await new Promise((done, fail) => http.get(at, (reply) => reply.resume().on("end", done)).on("error", fail));
  if (globalThis.fetch) await (await fetch(`http://127.0.0.1:${at.port}/`)).text();
  server.close();
  if (server.closeAllConnections) server.closeAllConnections();
  await new Promise((done) => {
    const where = path.join(place, "socket");
    const local = net.createServer((connection) => connection.end("x"));
    local.listen(where, () => net.connect(where).resume().on("end", () => { local.close(); done(); }));
  });
  await new Promise((done) => {
    const udp = dgram.createSocket("udp4", () => { udp.close(); done(); });
    udp.bind(0, "127.0.0.1", () => {
      udp.setBroadcast(true);
      udp.send("x", udp.address().port, "127.0.0.1");
    });
  });
  await dns.promises.lookup("localhost").catch(() => {});
  await dns.promises.resolve4("nowhere.invalid").catch(() => {});
}

async function computing() {
  crypto.randomBytes(8);
  await util.promisify(crypto.scrypt)("a", "b", 16);
  crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
  new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]));
  let sum = 0;
  for (let i = 0; i < 3e6; i++) sum += i % 7;
  Buffer.alloc(100 << 20, 1);
  eval("1 + 1");
  new Intl.DateTimeFormat("de", { timeZone: "Europe/Berlin" }).format(new Date());
}

async function self() {
  os.cpus();
  try { os.networkInterfaces(); } catch (error) { }
  os.userInfo();
  os.freemem();
  os.setPriority(1);
  process.memoryUsage();
  process.on("SIGUSR2", () => {});
  process.kill(process.pid, "SIGUSR2");
  process.umask();
  process.title = "ordinary";
  await util.promisify(setTimeout)(10);
}

async function main() {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "x"));
  await files(place);
  await processes();
  await network(place);
  await computing();
  await self();
  console.log("done");
}

main().catch((error) => { console.error(error); process.exit(1); });
