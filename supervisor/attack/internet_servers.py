"""What answers in the little internet: web servers, an echo, a name server, and a service of the host's own."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Final

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import h11

from egress.authority import Authority
from supervisor.attack.internet import SECRET_SERVICE_PORT, Hit, Internet

_NAMES_PORT: Final = 53
_PATIENCE_SECONDS: Final = 30
Serve = Callable[[socket.socket, Hit], None]


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


def _guarded(serve: Serve, connection: socket.socket, hit: Hit) -> None:
    with contextlib.suppress(OSError, ssl.SSLError, h11.RemoteProtocolError), connection:
        connection.settimeout(60)
        serve(connection, hit)


def _serve_echo(connection: socket.socket, hit: Hit) -> None:
    while data := connection.recv(65_536):
        hit.raw += data
        connection.sendall(data)


def _serve_secret(connection: socket.socket, _hit: Hit) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")


class Servers:
    """Threads, each with a socket that ends it when it is closed."""

    def __init__(self, internet: Internet) -> None:
        self._internet = internet
        self._sockets: list[socket.socket] = []
        self._authority = Authority(*internet.authority)
        self._context = self._authority.context("www.example.org")
        self._context.sni_callback = self._note_name
        self._names = threading.local()
        self._markers: set[int] = set()
        """Ports of loopback that :meth:`settle` comes from."""
        internet.settle = self.settle

    def start(self) -> None:
        """Listen, and answer in threads until :meth:`stop`."""
        world = self._internet.in_world
        for port, serve in self._served().items():
            self._accepting(world(partial(_listen, port)), self._hit, serve)
        self._thread(self._serve_names, world(partial(_listen, _NAMES_PORT, socket.SOCK_DGRAM)))
        secret = self._internet.in_host(partial(_listen, SECRET_SERVICE_PORT))
        self._accepting(secret, self._host_hit, _serve_secret)

    def _served(self) -> dict[int, Serve]:
        web = {80: self._serve_plain, 8080: self._serve_plain, 443: self._serve_tls, 8443: self._serve_tls}
        return {**web, 5432: _serve_echo, 9000: _serve_echo}

    def settle(self) -> None:
        """Stand at the end of every queue: when it is our turn, who came before has been noted.

        Raises:
            OSError: a server is gone.
        """
        world = self._internet.in_world
        for port in self._served():
            world(partial(self._queue_up, port))
        world(partial(self._queue_up, _NAMES_PORT, socket.SOCK_DGRAM))
        self._internet.in_host(partial(self._queue_up, SECRET_SERVICE_PORT))

    def _queue_up(self, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> None:
        with socket.socket(socket.AF_INET6, kind) as marker:
            marker.settimeout(_PATIENCE_SECONDS)
            marker.bind(("::1", 0))
            own = marker.getsockname()[1]
            self._markers.add(own)
            try:
                marker.connect(("::1", port))
                if kind == socket.SOCK_DGRAM:
                    marker.send(b"")
                marker.recv(1)
            finally:
                self._markers.discard(own)

    def _is_marker(self, sender: tuple[str, int]) -> bool:
        return sender[0] == "::1" and sender[1] in self._markers

    def stop(self) -> None:
        """Close every socket, which ends the threads."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _thread(self, work: Callable[..., None], sock: socket.socket) -> None:
        self._sockets.append(sock)
        threading.Thread(target=work, args=(sock,), daemon=True).start()

    def _accepting(self, listener: socket.socket, note: Callable[[socket.socket], Hit], serve: Serve) -> None:
        def accept(listener: socket.socket) -> None:
            while True:
                try:
                    connection, sender = listener.accept()
                except OSError:
                    return
                if self._is_marker(sender[:2]):
                    connection.close()
                    continue
                threading.Thread(target=_guarded, args=(serve, connection, note(connection)), daemon=True).start()

        self._thread(accept, listener)

    def _hit(self, connection: socket.socket) -> Hit:
        address, port = connection.getsockname()[:2]
        hit = Hit(_plain(address), port)
        self._internet.hits.append(hit)
        return hit

    def _host_hit(self, connection: socket.socket) -> Hit:
        address, port = connection.getsockname()[:2]
        self._internet.host_hits.append(_plain(address))
        return Hit(_plain(address), port)

    # -- what they serve --

    def _serve_plain(self, connection: socket.socket, hit: Hit) -> None:
        self._http(connection, hit)

    def _note_name(self, sock: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        self._names.value = name
        # For other names it has no certificate: whoever checks has to notice.
        if name and name.endswith((".example.org", ".example.com", ".example.net")):
            with contextlib.suppress(ValueError):
                sock.context = self._authority.context(name)

    def _serve_tls(self, connection: socket.socket, hit: Hit) -> None:
        self._names.value = None
        with self._context.wrap_socket(connection, server_side=True) as encrypted:
            hit.server_name = self._names.value
            self._http(encrypted, hit)

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
            if not packet and (sender is None or not self._is_marker(sender[:2])):
                return  # the socket has been shut
            with contextlib.suppress(OSError):
                sock.sendmsg([self._answer(packet) if packet else b""], control, 0, sender)

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
