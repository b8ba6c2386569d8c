# Put between prelude.py and a hostile program for the network: the proxy by hand, and what may come back.
import json, ssl, threading

PROXY = ("127.0.0.1", 3128)
NO_CHECK = ssl._create_unverified_context()


def talk(address, data, wait=5.0):
    """Send bytes to an address and read to the end; b"" if it is refused or closed at once."""
    found = b""
    try:
        with socket.create_connection(address, wait) as sock:
            sock.settimeout(wait)
            sock.sendall(data)
            while piece := sock.recv(65536):
                found += piece
                if len(found) > 1 << 20:
                    break
            return found
    except TimeoutError:
        return found or b"TIMEOUT"
    except OSError:
        return b""


def status(answer):
    """The status of an HTTP answer; 0: there is none."""
    parts = answer.split(None, 2)
    return int(parts[1]) if len(parts) > 1 and parts[0].startswith(b"HTTP/1") else 0


def connect(authority):
    """CONNECT through the proxy; the status."""
    if isinstance(authority, str):
        authority = authority.encode("utf-8", "surrogateescape")
    with socket.create_connection(PROXY, 10) as sock:
        sock.settimeout(10)
        sock.sendall(b"CONNECT " + authority + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            return status(sock.recv(65536))
        except OSError:
            return 0


def tunnel(authority):
    """An open tunnel, or None."""
    sock = socket.create_connection(PROXY, 10)
    sock.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(1)
        if not piece:
            return None
        head += piece
    return sock if b" 200 " in head else None


def https(name, path="/", server_name=None, address=None):
    """A whole request over TLS; what the server says it saw, or None if it was not reached."""
    try:
        raw = socket.create_connection((address or name, 443), 10)
        with NO_CHECK.wrap_socket(raw, server_hostname=server_name or name) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            found = b""
            while piece := sock.recv(65536):
                found += piece
        return json.loads(found.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return None


def client_hello(server_name, tls13=True):
    """The bytes that a TLS library sends first."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl._create_unverified_context()
    if not tls13:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    machine = context.wrap_bio(into, out, server_hostname=server_name)
    try:
        machine.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def must_refuse(what, got, allowed=(400, 403)):
    if got not in allowed:
        escapes.append(f"{what}: status {got}")


# ---- the program ----
