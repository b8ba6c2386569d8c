// What Node.js programs do: files, workers, children, servers on loopback, streams, WebAssembly.
const fs = require("fs"), os = require("os"), path = require("path"), net = require("net"), http = require("http"), dgram = require("dgram");
const { Worker, isMainThread, parentPort } = require("worker_threads"), child = require("child_process"), zlib = require("zlib"), crypto = require("crypto"), dns = require("dns"), util = require("util");
async function main() {
  const place = fs.mkdtempSync(path.join(os.tmpdir(), "x")), file = path.join(place, "a");
  fs.writeFileSync(file, "x".repeat(100000)); fs.copyFileSync(file, file + "2"); fs.renameSync(file + "2", file + "3"); fs.symlinkSync("a", path.join(place, "l")); fs.chmodSync(file, 0o600); fs.utimesSync(file, 1, 1); fs.readdirSync(place, { withFileTypes: true }); fs.truncateSync(file, 10); fs.statfsSync && fs.statfsSync(place); fs.realpathSync(place);
  await fs.promises.appendFile(file, "y"); await util.promisify(require("stream").pipeline)(fs.createReadStream(file), zlib.createGzip(), fs.createWriteStream(file + ".gz"));
  try { fs.watch(place, () => {}).close(); } catch (error) { }
  await new Promise((done, fail) => { const w = new Worker("require('worker_threads').parentPort.postMessage(new SharedArrayBuffer(8))", { eval: true }); w.on("message", done); w.on("error", fail); });
  child.execSync("ls / | wc -l"); child.spawnSync(process.execPath, ["-e", "1"]); await util.promisify(child.execFile)("true"); await new Promise((done) => child.fork("-e", ["1"], { execArgv: [] }).on("exit", done).on("error", done));
  const server = http.createServer((q, r) => r.end("hi")); await new Promise((done) => server.listen(0, "127.0.0.1", done)); await new Promise((done, fail) => http.get({ port: server.address().port, host: "127.0.0.1" }, (r) => r.resume().on("end", done)).on("error", fail)); if (globalThis.fetch) await (await fetch(`http://127.0.0.1:${server.address().port}/`)).text(); server.close(); server.closeAllConnections && server.closeAllConnections();
  await new Promise((done) => { const u = net.createServer((c) => c.end("x")); u.listen(path.join(place, "s"), () => net.connect(path.join(place, "s")).resume().on("end", () => { u.close(); done(); })); });
  await new Promise((done) => { const u = dgram.createSocket("udp4", (m) => { u.close(); done(); }); u.bind(0, "127.0.0.1", () => { u.setBroadcast(true); u.send("x", u.address().port, "127.0.0.1"); }); });
  await dns.promises.lookup("localhost").catch(() => {}); await dns.promises.resolve4("nowhere.invalid").catch(() => {});
  crypto.randomBytes(8); await util.promisify(crypto.scrypt)("a", "b", 16); crypto.generateKeyPairSync("ec", { namedCurve: "P-256" }); crypto.createHash("sha256").update("a").digest();
  new WebAssembly.Module(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); let s = 0; for (let i = 0; i < 3e6; i++) s += i % 7; Buffer.alloc(100 << 20, 1); eval("1 + 1"); new Intl.DateTimeFormat("de", { timeZone: "Europe/Berlin" }).format(new Date());
  os.cpus(); try { os.networkInterfaces(); } catch (error) { } os.userInfo(); os.loadavg(); os.freemem(); os.uptime(); os.setPriority(1); process.memoryUsage(); process.resourceUsage && process.resourceUsage(); process.hrtime.bigint(); process.stdout.isTTY; process.kill(process.pid, 0); process.on("SIGUSR2", () => {}); process.kill(process.pid, "SIGUSR2"); process.umask(); process.title = "x"; setTimeout(() => {}, 5); setImmediate(() => {}); await util.promisify(setTimeout)(10); structuredClone && structuredClone({ a: 1 }); console.log("done");
}
main().catch((error) => { console.error(error); process.exit(1); });
