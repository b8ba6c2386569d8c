"""A little internet in two network namespaces that the test makes: a host for the daemon, and everything else.

In "everything else" each address is local, so one server plays every host of the world and knows by the address that
was dialled which one it is. Names are answered by a name server that tests may change at any moment. Whatever arrives
is remembered, so that a test can say what must never have been sent. The namespaces live as long as this process holds
them; nothing of the machine's own network is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import h11
import trustme
from pyroute2 import IPRoute

from supervisor.jailer import kernel
from supervisor.jailer.cgroup_subtree import remove_subtree
from tests.daemon import Daemon, end_daemons, spawn_daemon, wait_listening

_T = TypeVar("_T")

NAME_SERVER = "45.0.0.53"
WEB = "45.0.0.10"
"""Public, and nobody's in particular."""
OTHER_WEB = "45.0.0.11"
HOST = "45.1.0.1"
"""The daemon's host's own public address."""
METADATA = "169.254.169.254"
PRIVATE = "10.1.2.3"
GATEWAY = "45.1.0.2"
SECRET_SERVICE_PORT = 8081
"""Of a service of the host, on its loopback and on all of its addresses."""


@dataclass
class Hit:
    """Something that arrived at a server of the internet."""

    address: str
    port: int
    server_name: str | None = None
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)

    @property
    def hosts(self) -> list[str]:
        return [headers.get("host", "") for _, _, headers, _ in self.requests]


@dataclass
class Internet:
    """What tests see and turn."""

    host_fd: int
    world_fd: int
    authority: trustme.CA
    records: dict[str, list[str]] = field(default_factory=dict)
    """Addresses by name; a CNAME is ``["=other.name"]``."""
    answers: dict[str, Callable[[], list[str]]] = field(default_factory=dict)
    """Addresses that are made up anew with each question."""
    queries: list[str] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    host_hits: list[str] = field(default_factory=list)
    """Connections to services of the host itself: there must never be one."""
    pages: dict[str, Callable[[Hit, str, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]] = field(
        default_factory=dict
    )

    def forget(self) -> None:
        self.hits.clear()
        self.queries.clear()
        self.host_hits.clear()

    def hits_at(self, address: str) -> list[Hit]:
        return [hit for hit in self.hits if hit.address == address]

    def in_host(self, work: Callable[[], _T]) -> _T:
        return _inside(self.host_fd, work)

    def in_world(self, work: Callable[[], _T]) -> _T:
        return _inside(self.world_fd, work)


def _inside(namespace_fd: int, work: Callable[[], _T]) -> _T:
    """Do something in a namespace, in a thread that ends: sockets made there stay there."""
    found: list[_T] = []
    fault: list[BaseException] = []

    def run() -> None:
        try:
            kernel.setns(namespace_fd, kernel.CLONE_NEWNET)
            found.append(work())
        except BaseException as error:  # noqa: BLE001 - raised where it was asked for
            fault.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if fault:
        raise fault[0]
    return found[0]


def _new_namespace() -> int:
    found: list[int] = []

    def make() -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        with IPRoute() as netlink:
            netlink.link("set", index=1, state="up")
        found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return found[0]


def _join(host_fd: int, world_fd: int) -> None:
    def in_host() -> None:
        with IPRoute() as netlink:
            netlink.link("add", ifname="out", kind="veth", peer={"ifname": "in", "net_ns_fd": world_fd})
            index = netlink.link_lookup(ifname="out")[0]
            netlink.addr("add", index=index, address=HOST, prefixlen=24)
            netlink.addr("add", index=index, address="2a0f:1::1", prefixlen=64, flags=2)
            netlink.link("set", index=index, state="up")
            netlink.route("add", dst="default", gateway=GATEWAY)

    def in_world() -> None:
        with IPRoute() as netlink:
            index = netlink.link_lookup(ifname="in")[0]
            netlink.addr("add", index=index, address=GATEWAY, prefixlen=24)
            netlink.addr("add", index=index, address="2a0f:1::2", prefixlen=64, flags=2)
            netlink.link("set", index=index, state="up")
            netlink.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=1, type="local", scope=254, table=254)
            netlink.route("add", family=socket.AF_INET6, dst="::/0", oif=1, type="local", table=254)

    def route_back() -> None:
        with IPRoute() as netlink:
            netlink.route("add", family=socket.AF_INET6, dst="default", gateway="2a0f:1::2")

    _inside(host_fd, in_host)
    _inside(world_fd, in_world)
    _inside(host_fd, route_back)


def _listen(port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        made.listen(1024)
    return made


def _plain(address: str) -> str:
    found = ip_address(address)
    return str(getattr(found, "ipv4_mapped", None) or found)


class _Servers:
    """Threads, each with a socket that ends it when it is closed."""

    def __init__(self, internet: Internet) -> None:
        self._internet = internet
        self._sockets: list[socket.socket] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = internet.authority.issue_cert(
            "*.example.org", "example.org", "*.example.com", "*.example.net", WEB
        )
        certificate.configure_cert(self._context)
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.sni_callback = self._note_name
        self._names = threading.local()

    def start(self) -> None:
        world = self._internet.in_world
        for port in (80, 8080):
            self._accepting(world(lambda port=port: _listen(port)), self._serve_plain)  # type: ignore[misc]
        for port in (443, 8443):
            self._accepting(world(lambda port=port: _listen(port)), self._serve_tls)  # type: ignore[misc]
        for port in (5432, 9000):
            self._accepting(world(lambda port=port: _listen(port)), self._serve_echo)  # type: ignore[misc]
        self._thread(self._serve_names, world(lambda: _listen(53, socket.SOCK_DGRAM)))
        secret = self._internet.in_host(lambda: _listen(SECRET_SERVICE_PORT))
        self._accepting(secret, self._serve_secret)

    def stop(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _thread(self, work: Callable[..., None], sock: socket.socket) -> None:
        self._sockets.append(sock)
        threading.Thread(target=work, args=(sock,), daemon=True).start()

    def _accepting(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        def accept(listener: socket.socket) -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=self._guarded, args=(serve, connection), daemon=True).start()

        self._thread(accept, listener)

    def _guarded(self, serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError, h11.RemoteProtocolError), connection:
            connection.settimeout(60)
            serve(connection)

    def _hit(self, connection: socket.socket) -> Hit:
        address, port = connection.getsockname()[:2]
        hit = Hit(_plain(address), port)
        self._internet.hits.append(hit)
        return hit

    # -- what they serve --

    def _serve_plain(self, connection: socket.socket) -> None:
        self._http(connection, self._hit(connection))

    def _note_name(self, sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self._names.value = name

    def _serve_tls(self, connection: socket.socket) -> None:
        hit = self._hit(connection)
        self._names.value = None
        with self._context.wrap_socket(connection, server_side=True) as encrypted:
            hit.server_name = self._names.value
            self._http(encrypted, hit)

    def _serve_echo(self, connection: socket.socket) -> None:
        hit = self._hit(connection)
        while data := connection.recv(65_536):
            hit.raw += data
            connection.sendall(data)

    def _serve_secret(self, connection: socket.socket) -> None:
        self._internet.host_hits.append(_plain(connection.getsockname()[0]))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    def _http(self, connection: socket.socket, hit: Hit) -> None:
        while True:
            http = h11.Connection(h11.SERVER)
            request, body = None, bytearray()
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    data = connection.recv(65_536)
                    hit.raw += data
                    http.receive_data(data)
                elif isinstance(event, h11.Request):
                    request = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    break
            if request is None:
                return
            headers = {key.decode(): value.decode("latin-1") for key, value in request.headers}
            path = request.target.decode("latin-1")
            hit.requests.append((request.method.decode(), path, headers, bytes(body)))
            status, extra, content = self._page(hit, path, headers, bytes(body))
            fields = {"Content-Length": str(len(content)), "Content-Type": "application/json", **extra}
            lines = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
            connection.sendall(f"HTTP/1.1 {status} OK\r\n{lines}\r\n".encode() + content)
            if headers.get("connection", "").lower() == "close":
                return

    def _page(self, hit: Hit, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        page = self._internet.pages.get(path.partition("?")[0])
        if page is not None:
            return page(hit, path, headers, body)
        said = {"address": hit.address, "port": hit.port, "path": path, "headers": headers, "name": hit.server_name}
        return 200, {}, json.dumps(said).encode()

    def _serve_names(self, sock: socket.socket) -> None:
        # The answer comes from the very address that was asked.
        sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)
        while True:
            try:
                packet, control, _, sender = sock.recvmsg(4096, 256)
            except OSError:
                return
            if not packet:
                return
            with contextlib.suppress(OSError):
                sock.sendmsg([self._answer(packet)], control, 0, sender)

    def _answer(self, packet: bytes) -> bytes:
        query = dns.message.from_wire(packet)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self._internet.queries.append(name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        known = self._lookup(name)
        if known is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer.to_wire()
        owner = question.name
        while known and known[0].startswith("="):
            target = known[0][1:]
            answer.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", f"{target}."))
            owner, known = dns.name.from_text(target), self._lookup(target) or []
        version = 6 if question.rdtype == dns.rdatatype.AAAA else 4
        found = [each for each in known if ip_address(each).version == version]
        if found and question.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            answer.answer.append(dns.rrset.from_text(owner, 0, "IN", "AAAA" if version == 6 else "A", *found))
        return answer.to_wire()

    def _lookup(self, name: str) -> list[str] | None:
        made = self._internet.answers.get(name)
        return made() if made is not None else self._internet.records.get(name)


@contextmanager
def open_internet() -> Iterator[Internet]:
    host_fd, world_fd = _new_namespace(), _new_namespace()
    try:
        _join(host_fd, world_fd)
        internet = Internet(host_fd, world_fd, trustme.CA())
        servers = _Servers(internet)
        servers.start()
        try:
            yield internet
        finally:
            servers.stop()
    finally:
        os.close(host_fd)
        os.close(world_fd)


def policies_with(directory: Path, rules: Mapping[str, str], *, sets: Sequence[str] | None = None) -> None:
    """Make a folder of policies whose default one has a network with these rule files."""
    source = Path(__file__).resolve().parent.parent / "policies"
    shutil.copytree(source, directory)
    (directory / "sandbox" / "packages.toml").unlink()
    default = directory / "sandbox" / "default.toml"
    named = json.dumps(list(rules if sets is None else sets))
    default.write_text(default.read_text().replace('network = "none"', f'egress = {named}\nnetwork = "egress"'))
    for name, text in rules.items():
        (directory / "egress" / f"{name}.toml").write_text(text)


@dataclass
class Online(Daemon):
    """A daemon that lives in the little internet; tests reach it over a unix socket."""

    internet: Internet = field(default=None, kw_only=True)  # type: ignore[assignment]
    policies: Path = field(default=Path(), kw_only=True)

    def audit(self) -> list[dict[str, Any]]:
        path = self.state_dir / "data" / "egress.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def set_rules(self, name: str, text: str) -> None:
        """Replace a rule file, as an editor does."""
        path = self.policies / "egress" / f"{name}.toml"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)


@contextmanager
def online_daemon(
    image: Path, internet: Internet, rules: Mapping[str, str], settings: Mapping[str, str] | None = None
) -> Iterator[Online]:
    """A daemon in the little internet, for the block."""
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    policies = state / "policies"
    try:
        policies_with(policies, rules)
        process = spawn_daemon(
            state,
            image,
            settings={
                "GAOLER_BIND": f"unix:{state}/run/door.sock",
                "GAOLER_JAILER_POLICY_DIR": str(policies),
                "GAOLER_EGRESS_NAME_SERVERS": NAME_SERVER,
                "GAOLER_HTTP_AUTHENTICATION": "true",
                **(settings or {}),
            },
            prefix=("nsenter", f"--net=/proc/{os.getpid()}/fd/{internet.host_fd}"),
        )
        wait_listening(process, state)
        daemon = Online(process, state, f"unix:{state}/run/door.sock", internet=internet, policies=policies)
        yield daemon
        daemon.stop()
    finally:
        end_daemons(state)
        remove_subtree(state)
        shutil.rmtree(state)
