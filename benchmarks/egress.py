"""What a network costs: requests, one fast tunnel, many tunnels, and a grant, each beside the same without the proxy.

Everything happens in a little internet of this program's own (``tests/internet.py``). Its servers are replaced by fast
ones, in processes of their own; the clients are functions of this module whose source is run, unchanged, by ``POST
/exec`` in a sandbox and by the host's Python in the host's namespace, taking turns. Names are in the proxy's cache, as
those of a host that is used are.
"""

from __future__ import annotations

import inspect
import json
import os
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import dns.message
import dns.rrset
import trustme

from benchmarks.common import PRINT, Client, percentile, row
from supervisor.jailer import kernel, netns
from tests.daemon import Daemon, UnixConnection, eventually
from tests.internet import Internet, Online, online_daemon, open_internet

NAME = "bench.example.org"
WORLD = "45.0.0.20"
NAME_SERVER = "45.0.0.54"
HTTP, TLS, BULK, ECHO, GATE = range(9100, 9105)
"""Ports: two that answer a request, a source and sink of bytes, an echo, and one where clients wait for each other."""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
PIECE = 1 << 18
RULES = f"""
[[rule]]
hosts = ["{NAME}"]
schemes = ["http"]
ports = [{HTTP}]
reason = "measured: small requests"
[[rule]]
hosts = ["{NAME}"]
ports = [{TLS}]
reason = "measured: small requests, encrypted"
[[rule]]
hosts = ["{NAME}"]
schemes = ["raw"]
ports = [{BULK}, {ECHO}, {GATE}]
reason = "measured: tunnels"
"""
USUAL_RULES = f"""
[[rule]]
hosts = ["{NAME}"]
reason = "measured: what a grant costs"
"""
ROUNDS = 3
"""Of requests: so no sandbox makes more connections than the proxy lets it make at once."""
WARM_UP = 20
GAP_SECONDS = 0.05
_IP_FREEBIND = 15  # <linux/in.h>; the host does not have the name server's address


# -- the clients: their source runs in sandboxes, so they use nothing but each other and these imports --

CLIENT_IMPORTS = "from __future__ import annotations\nimport json, socket, ssl, time"


def reach(server: str, port: int, *, connect: bool) -> socket.socket:
    """Connect; with ``connect`` by way of the proxy that listens inside each sandbox."""
    made = socket.create_connection(("127.0.0.1", 3128) if connect else (server, port))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if connect:
        made.sendall(f"CONNECT {server}:{port} HTTP/1.1\r\nHost: {server}:{port}\r\n\r\n".encode())
    return made


def opened(link: socket.socket, *, connect: bool) -> bool:
    """Wait until the proxy says that the server is reached."""
    answer = b""
    while connect and not answer.endswith(b"\r\n\r\n"):
        piece = link.recv(4096)
        if not piece:
            return False
        answer += piece
    return not connect or b" 200 " in answer


def requests(server: str, name: str, port: int, number: int, *, tls: bool, connect: bool) -> list[float]:
    """Give the milliseconds of small requests, each with a connection of its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    address = server if connect else socket.gethostbyname(server)
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        link = reach(address, port, connect=connect)
        if not opened(link, connect=connect):
            raise ConnectionError
        if tls:
            link = context.wrap_socket(link, server_hostname=name)
        link.sendall(f"GET / HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            piece = link.recv(4096)
            if not piece:
                raise ConnectionError(answer)
            answer += piece
        taken.append(round((time.perf_counter() - started) * 1000, 4))
        link.close()
    return taken


def lookups(server: str, number: int) -> list[float]:
    """Give the milliseconds of looking a name up."""
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        socket.getaddrinfo(server, 443, socket.AF_INET, socket.SOCK_STREAM)
        taken.append(round((time.perf_counter() - started) * 1000, 4))
    return taken


def transfer(server: str, port: int, size: int, piece: int, *, down: bool, connect: bool) -> float:
    """Give the seconds that so many bytes take on one connection."""
    link = reach(server, port, connect=connect)
    if not opened(link, connect=connect):
        raise ConnectionError
    buffer = memoryview(bytearray(piece))
    started = time.perf_counter()
    link.sendall(f"{'down' if down else 'up'} {size}".ljust(32).encode())
    if down:
        left = size
        while left:
            count = link.recv_into(buffer)
            if not count:
                raise ConnectionError
            left -= count
    else:
        for _ in range(size // piece):
            link.sendall(buffer)
        if link.recv(1) != b"k":
            raise ConnectionError
    taken = time.perf_counter() - started
    link.close()
    return taken


def wait_for_all(server: str, port: int, number: int, *, connect: bool) -> None:
    """Wait until so many are waiting; not for ever, should one of them have failed."""
    link = reach(server, port, connect=connect)
    link.settimeout(40)
    if not opened(link, connect=connect):
        raise ConnectionError
    link.sendall(str(number).encode())
    if link.recv(1) != b"g":
        raise ConnectionError
    link.close()


def tunnels(
    server: str, port: int, gate: int, waiting: int, number: int, rounds: int, *, connect: bool
) -> dict[str, Any]:
    """Open many tunnels, have each echo messages in turn, then all at once; with the others who do the same."""
    failures = 0
    wait_for_all(server, gate, waiting, connect=connect)
    started = time.perf_counter()
    links = [reach(server, port, connect=connect) for _ in range(number)]
    good = [link for link in links if opened(link, connect=connect)]
    open_ms = (time.perf_counter() - started) * 1000
    failures += number - len(good)
    wait_for_all(server, gate, waiting, connect=connect)
    wait_for_all(server, gate, waiting, connect=connect)
    message = b"x" * 64
    taken = []
    for _ in range(rounds):
        for link in good:
            started = time.perf_counter()
            link.sendall(message)
            failures += link.recv(64, socket.MSG_WAITALL) != message
            taken.append(round((time.perf_counter() - started) * 1000, 3))
    started = time.perf_counter()
    for link in good:
        link.sendall(message)
    for link in good:
        failures += link.recv(64, socket.MSG_WAITALL) != message
    together_ms = (time.perf_counter() - started) * 1000
    wait_for_all(server, gate, waiting, connect=connect)
    for link in links:
        link.close()
    return {"open": open_ms, "echo": taken, "together": together_ms, "failures": failures}


CLIENT = (reach, opened, requests, lookups, transfer, wait_for_all, tunnels)


def program(work: Callable[..., object], **arguments: object) -> str:
    """Write a program that calls one of the functions above and prints what it gives."""
    sources = "\n\n".join(inspect.getsource(each) for each in CLIENT)
    return f"{CLIENT_IMPORTS}\n{sources}\nprint(json.dumps({work.__name__}(**{arguments!r})))\n"


def in_sandbox(daemon: Daemon, work: Callable[..., object], **arguments: object) -> Any:
    """Call one of the functions above in a new sandbox."""
    answer = daemon.execute(program(work, **arguments), timeout=55_000)
    if answer["code"] != 0:
        raise SystemExit(f"unexpected answer: {answer}")
    return json.loads(answer["stdout"])


def directly(namespace_fd: int, work: Callable[..., object], **arguments: object) -> Any:
    """Call one of the functions above in a namespace of the host."""
    command = [*entering(namespace_fd), sys.executable, "-c", program(work, **arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout)


def entering(namespace_fd: int) -> list[str]:
    """Give the beginning of a command that runs in a namespace."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace_fd}"]


# -- the servers --


def serve() -> None:
    """Serve until standard input ends: the process that :func:`fast_servers` starts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(NAME).configure_cert(context)
    for port, work in (
        (HTTP, lambda listener: _answer(listener, None)),
        (TLS, lambda listener: _answer(listener, context)),
        (BULK, _transfer),
        (ECHO, _echo),
        (GATE, _gate),
    ):
        listener = socket.create_server(("0.0.0.0", port), backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=work, args=(listener,), daemon=True).start()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # The little internet's own name server has the wildcard address; the more specific one is found first.
    names.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    names.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    names.bind((NAME_SERVER, 53))
    threading.Thread(target=_names, args=(names,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def _answer(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        link, _ = listener.accept()
        with suppress(OSError), context.wrap_socket(link, server_side=True) if context else link as stream:
            asked = b""
            while not asked.endswith(b"\r\n\r\n") and (piece := stream.recv(4096)):
                asked += piece
            stream.sendall(ANSWER)


def _transfer(listener: socket.socket) -> None:
    buffer = memoryview(bytearray(PIECE))
    while True:
        link, _ = listener.accept()
        with suppress(OSError, ValueError), link:
            way, size = link.recv(32, socket.MSG_WAITALL).split()
            left = int(size)
            while left > 0:
                left -= link.send(buffer[:left]) if way == b"down" else link.recv_into(buffer) or left
            link.sendall(b"k" if way == b"up" else b"")
            link.recv(1)  # its end


def _echo(listener: socket.socket) -> None:
    with selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj is listener:
                    ready.register(listener.accept()[0], selectors.EVENT_READ)
                    continue
                try:
                    data = key.fileobj.recv(4096)
                    key.fileobj.sendall(data)
                except OSError:
                    data = b""
                if not data:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()


def _gate(listener: socket.socket) -> None:
    waiting: list[socket.socket] = []
    while True:
        link, _ = listener.accept()
        waiting.append(link)
        if len(waiting) == int(link.recv(16)):
            for each in waiting:
                each.sendall(b"g")
                each.close()
            waiting.clear()


def _names(sock: socket.socket) -> None:
    while True:
        packet, sender = sock.recvfrom(4096)
        query = dns.message.from_wire(packet)
        answer = dns.message.make_response(query)
        owner = query.question[0].name
        answer.answer.append(dns.rrset.from_text(owner, 3600, "IN", "A", WORLD))
        sock.sendto(answer.to_wire(), sender)


@contextmanager
def fast_servers(namespace_fd: int) -> Iterator[None]:
    """Have the servers in a namespace for the block, in a process of their own."""
    command = [*entering(namespace_fd), sys.executable, "-c", "from benchmarks.egress import serve; serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the servers do not start")
        yield


# -- what is measured --


def cpu_seconds(pid: int) -> float:
    """Give the time that a process of one thread has run."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def memory(pid: int) -> str:
    """Say what a process has resident, and what of it is its share."""
    fields = dict(line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()[1:])
    rss, pss = (int(fields[name].split()[0]) / 1024 for name in ("Rss", "Pss"))
    return f"RSS {rss:.1f} MiB, PSS {pss:.1f} MiB"


def line(name: str, times: Sequence[float], more: str = "") -> None:
    """Print one line of times in milliseconds."""
    ordered = sorted(times)
    print(f"  {name:<60} p50 {statistics.median(ordered):7.2f} ms  p95 {percentile(ordered, 0.95):7.2f} ms  {more}")


def measure_requests(daemon: Online, runs: int) -> None:
    """Print what the proxy adds to small requests."""
    print(f"A small request with a connection of its own, {ROUNDS} times {runs // ROUNDS}, sandbox and host in turns:")
    number, proxy = runs // ROUNDS + WARM_UP, daemon.named("gaoler-egress")
    for title, port, tls, connect in (
        ("plain HTTP", HTTP, False, False),
        ("plain TLS, told apart by its ClientHello", TLS, True, False),
        ("TLS in a CONNECT tunnel", TLS, True, True),
    ):
        inside: list[float] = []
        outside: list[float] = []
        spent = 0.0
        for _ in range(ROUNDS):
            before = cpu_seconds(proxy)
            found = in_sandbox(
                daemon, requests, server=NAME, name=NAME, port=port, number=number, tls=tls, connect=connect
            )
            spent += cpu_seconds(proxy) - before
            inside += found[WARM_UP:]
            fd = daemon.internet.host_fd
            found = directly(fd, requests, server=WORLD, name=NAME, port=port, number=number, tls=tls, connect=False)
            outside += found[WARM_UP:]
        added = statistics.median(inside) - statistics.median(outside)
        line(f"{title}: directly", outside)
        line(f"{title}: sandbox and proxy", inside, f"proxy's CPU {spent * 1000 / ROUNDS / number:.2f} ms each")
        print(f"    added at the median: {added:+.2f} ms (asked: at most +3)", flush=True)
    line("looking a granted name up, in the sandbox", in_sandbox(daemon, lookups, server=NAME, number=150)[50:])


def measure_throughput(daemon: Online, mebibytes: int) -> None:
    """Print how fast one tunnel is."""
    size, proxy = mebibytes << 20, daemon.named("gaoler-egress")
    print(
        f"One tunnel (CONNECT, a raw rule), {mebibytes} MiB each way, {ROUNDS} times, in turns with the same without:"
    )
    shared: dict[str, Any] = {"port": BULK, "size": size, "piece": PIECE}
    for down in (True, False):
        rates: dict[str, list[float]] = {"loopback": [], "wire": [], "tunnel": []}
        spent = 0.0
        for _ in range(ROUNDS):
            host = daemon.internet.host_fd
            taken = {
                "loopback": directly(host, transfer, server="127.0.0.1", down=down, connect=False, **shared),
                "wire": directly(host, transfer, server=WORLD, down=down, connect=False, **shared),
            }
            before = cpu_seconds(proxy)
            taken["tunnel"] = in_sandbox(daemon, transfer, server=NAME, down=down, connect=True, **shared)
            spent += cpu_seconds(proxy) - before
            for name, seconds in taken.items():
                rates[name].append(size * 8 / seconds / 1e9)
        loopback, wire, tunnel = (statistics.median(each) for each in rates.values())
        cpu = spent * 1e9 / ROUNDS / size
        print(
            f"  {'down' if down else 'up':<5} directly: loopback {loopback:6.2f}, over the wire {wire:6.2f} Gbit/s;"
            f"  tunnel {tunnel:6.2f} Gbit/s = {tunnel / loopback:.0%} of loopback, {tunnel / wire:.0%} of the wire"
            f"  (asked: >= {min(2.0, loopback / 2):.2f});  proxy's CPU {cpu:.2f} s/GB",
            flush=True,
        )


def measure_tunnels(daemon: Online, sandboxes: int, number: int) -> None:
    """Print what many tunnels at once take."""
    proxy = daemon.named("gaoler-egress")
    print(f"{number} tunnels at once from {sandboxes} sandbox{'es' if sandboxes > 1 else ''}:")
    idle = memory(proxy)
    shared: dict[str, Any] = {"waiting": sandboxes + 1, "gate": GATE}

    def run(_: int) -> Any:
        each = number // sandboxes
        return in_sandbox(daemon, tunnels, server=NAME, port=ECHO, number=each, rounds=4, connect=True, **shared)

    def meet() -> None:
        wait = {"server": "127.0.0.1", "port": GATE, "number": sandboxes + 1, "connect": False}
        daemon.internet.in_world(lambda: wait_for_all(**wait))  # type: ignore[arg-type]

    with ThreadPoolExecutor(sandboxes) as threads:
        running = [threads.submit(run, each) for each in range(sandboxes)]
        meet()
        meet()
        full = memory(proxy)
        meet()
        meet()
        found = [each.result() for each in running]
    failures = sum(each["failures"] for each in found)
    line("one echo while all are open", [each for one in found for each in one["echo"]], f"failures {failures}")
    slowest, together = (max(each[what] for each in found) for what in ("open", "together"))
    print(f"  all open after {slowest:.0f} ms; one message through each, all at once: {together:.0f} ms")
    eventually(lambda: not connections(proxy))
    print(f"  proxy: before {idle}; open {full}; after {memory(proxy)}", flush=True)


def connections(pid: int) -> bool:
    """Say whether a process has more than a few sockets."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) > 32


def measure_plumbing(runs: int) -> None:
    """Print what the network inside of a jail takes to be made."""
    routes: list[float] = []
    listeners: list[float] = []

    plumbing = netns.Plumbing()

    def plumb() -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        started = time.perf_counter()
        plumbing.apply()
        routed = time.perf_counter()
        netns.close_all(netns.listen(netns.FIRST_PORTS))
        routes.append((routed - started) * 1000)
        listeners.append((time.perf_counter() - routed) * 1000)

    for _ in range(runs + WARM_UP):
        thread = threading.Thread(target=plumb)
        thread.start()
        thread.join()
        time.sleep(0.01)  # the kernel takes the old namespace down meanwhile, with the same lock
    print(f"The network inside of a jail, {runs} new namespaces:")
    both = [first + second for first, second in zip(routes, listeners, strict=True)]
    for name, times in (("routes", routes), ("listeners", listeners), ("both (asked: < 2 ms)", both)):
        line(name, times[WARM_UP:])


class UnixClient(Client):
    """The same over a unix socket: the daemons live in a namespace."""

    def __init__(self, daemon: Daemon) -> None:
        super().__init__("localhost")
        self._connection = UnixConnection(daemon.address.removeprefix("unix:"))


def measure_grants(daemons: dict[str, Online], runs: int) -> None:
    """Print what a network adds to an execution that does not use it."""
    print(f"POST /exec with print(1), a new sandbox each, a call every {GAP_SECONDS * 1000:.0f} ms, {runs} of each:")
    clients = {name: UnixClient(daemon) for name, daemon in daemons.items()}
    times: dict[str, list[float]] = {name: [] for name in daemons}
    for number in range(runs + runs // 10):
        for name, client in clients.items():
            started = time.perf_counter()
            client.execute(*PRINT)
            if number >= runs // 10:
                times[name].append((time.perf_counter() - started) * 1000)
            time.sleep(GAP_SECONDS)
    for name, client in clients.items():
        row(name, sorted(times[name]))
        client.close()
    floor, *others = times
    for name in others:
        print(f"    {name}: {statistics.median(times[name]) - statistics.median(times[floor]):+.2f} ms at the median")


@contextmanager
def warm_daemon(image_dir: Path, internet: Internet, rules: str, **settings: str) -> Iterator[Online]:
    """Start a daemon in the little internet, and wait until its sandboxes wait."""
    settings = {"GAOLER_EGRESS_NAME_SERVERS": NAME_SERVER, **settings}
    with online_daemon(image_dir, internet, {"bench": rules}, settings) as daemon:
        eventually(lambda: daemon.names().count("python3") >= 8)
        yield daemon


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=300, help="Measured requests of each kind.")
@click.option("--mebibytes", default=512, help="Size of a transfer.")
@click.option("--number", default=200, help="Tunnels at once.")
def main(image_dir: Path, runs: int, mebibytes: int, number: int) -> None:
    """Start an internet and daemons in it, measure, stop them."""
    limits = {"GAOLER_EGRESS_TOTAL_BYTES": str(1 << 40), "GAOLER_EGRESS_CONNECTIONS": "256"}
    measure_plumbing(200)
    with open_internet() as internet, fast_servers(internet.world_fd), fast_servers(internet.host_fd):
        with warm_daemon(image_dir, internet, RULES, **limits) as daemon:
            measure_requests(daemon, runs)
            measure_throughput(daemon, mebibytes)
            for sandboxes in (1, 4):
                measure_tunnels(daemon, sandboxes, number)
        with (
            warm_daemon(image_dir, internet, USUAL_RULES, GAOLER_JAILER_POLICY_DIR="") as without,
            warm_daemon(image_dir, internet, USUAL_RULES) as usual,
            warm_daemon(image_dir, internet, RULES) as further,
        ):
            names = ("network none", "network egress", "network egress, five further ports")
            measure_grants(dict(zip(names, (without, usual, further), strict=True)), runs // 3)


if __name__ == "__main__":
    main()
