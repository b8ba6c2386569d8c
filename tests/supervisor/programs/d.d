// Much of what programs in D do: threads, messages, parallel loops, files, children, sockets on loopback, mapped memory.
import core.atomic, core.memory, core.sync.condition, core.sync.mutex, core.thread, core.time;
import std.algorithm, std.array, std.concurrency, std.conv, std.datetime, std.digest.sha, std.exception, std.file;
import std.format, std.json, std.mmfile, std.parallelism, std.path, std.process, std.random, std.range, std.regex;
import std.socket, std.stdio, std.string, std.uni;

shared int counter;

void worker(Tid owner, int number) {
    atomicOp!"+="(counter, number);
    owner.send(number);
}

void threads() {
    foreach (number; 0 .. 8) spawn(&worker, thisTid, number);
    int sum;
    foreach (_; 0 .. 8) sum += receiveOnly!int();
    enforce(sum == 28 && atomicLoad(counter) == 28);
    auto squares = new long[](1000);
    foreach (index, ref square; parallel(squares)) square = index * index;
    enforce(squares[30] == 900);
    enforce(taskPool.reduce!"a + b"(iota(1000)) == 499_500);
    auto lock = new Mutex;
    auto ready = new Condition(lock);
    bool done;
    auto thread = new Thread({ synchronized (lock) { done = true; ready.notifyAll(); } }).start();
    synchronized (lock) while (!done) ready.wait();
    thread.join();
    Thread.sleep(1.msecs);
    auto fiber = new Fiber({ Fiber.yield(); });
    fiber.call();
    fiber.call();
}

void files(string place) {
    auto name = buildPath(place, "a");
    std.file.write(name, "line\n".replicate(1000));
    enforce(File(name).byLine.count == 1000);
    copy(name, name ~ "2");
    std.file.rename(name ~ "2", name ~ "3");
    symlink("a", buildPath(place, "l"));
    setAttributes(name, 384);
    setTimes(name, SysTime(0), SysTime(0));
    mkdirRecurse(buildPath(place, "b", "c"));
    enforce(dirEntries(place, SpanMode.depth).walkLength >= 4);
    auto file = File(name, "r+");
    file.lock();
    file.flush();
    file.sync();
    file.unlock();
    file.close();
    auto mapped = new MmFile(name, MmFile.Mode.readWrite, 0, null);
    (cast(ubyte[]) mapped[])[0] = 65;
    destroy(mapped);
    enforce(readText("/etc/passwd").length > 0);
    getSize(name);
    rmdirRecurse(place);
}

void processes() {
    enforce(executeShell("ls / | wc -l").status == 0);
    auto pipes = pipeProcess(["cat"], Redirect.stdin | Redirect.stdout);
    pipes.stdin.write("x");
    pipes.stdin.close();
    enforce(pipes.stdout.readln() == "x");
    wait(pipes.pid);
    auto sleeper = spawnProcess(["sleep", "60"]);
    kill(sleeper);
    wait(sleeper);
    enforce(environment["PATH"].length > 0);
}

void network() {
    auto server = new TcpSocket;
    server.setOption(SocketOptionLevel.SOCKET, SocketOption.REUSEADDR, true);
    server.bind(new InternetAddress("127.0.0.1", InternetAddress.PORT_ANY));
    server.listen(1);
    auto client = new TcpSocket(server.localAddress);
    auto peer = server.accept();
    peer.send("hi");
    char[9] buffer;
    enforce(client.receive(buffer) == 2);
    auto set = new SocketSet;
    set.add(client);
    Socket.select(set, null, null, dur!"msecs"(0));
    auto pair = socketPair();
    pair[0].send("x");
    pair[1].receive(buffer);
    auto udp = new UdpSocket;
    udp.bind(new InternetAddress("127.0.0.1", InternetAddress.PORT_ANY));
    udp.sendTo("x", udp.localAddress);
    foreach (each; [server, client, peer, udp]) each.close();
}

void main() {
    auto place = buildPath(tempDir, "d" ~ thisProcessID.to!string);
    mkdir(place);
    threads();
    network();
    files(place);
    processes();
    auto words = "b a a".split.sort.group.array;
    enforce(words.length == 2);
    enforce("abc123".matchFirst(regex(`\d+`)).hit == "123");
    enforce(JSONValue(["a": 1]).toString == `{"a":1}`);
    enforce("grüße".toUpper.walkLength >= 5);
    sha256Of("x");
    uniform(0, 9);
    Clock.currTime.toISOExtString;
    auto big = new int[](5_000_000);
    enforce(big.sum == 0);
    GC.collect();
    enforce(collectException(enforce(false)) !is null);
    writeln("done");
}
