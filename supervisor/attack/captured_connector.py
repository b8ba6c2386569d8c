"""What a captured daemon could ask of the connector, and what somebody could do who has captured that.

A program of its own, as :mod:`supervisor.attack.captured` is, for the roles ``asker`` and ``connector``.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from pathlib import Path
from typing import Final

import msgspec

from supervisor.attack.captured import (
    CALLS,
    MOUNTING,
    Finds,
    Order,
    ends_nobody,
    no_code_of_its_own,
    somebody,
    starts_nothing,
)
from supervisor.connector import wire
from supervisor.connector.allowlist import Allowed
from supervisor.connector.client import Connector
from supervisor.connector.start import ConnectorPlan, View, enter, start_connector
from supervisor.jailer import kernel

_FLOOD: Final = 2000
_NEVER: Final = 30.0
_NETLINK_AUDIT: Final = 9
_LISTEN, _ACCEPT4, _MEMFD_CREATE = 50, 288, 319


def _view(order: Order) -> View:
    return View(order.uid, Path(order.place), [Path(each) for each in order.readable], [Path(order.hosts[0])])


def _as_connector(order: Order, finds: Finds) -> None:
    namesake = somebody(order.uid)
    enter(_view(order))
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.install_seccomp(order.program)
    for name, number in {**CALLS, **MOUNTING}.items():
        finds.call_refused(name, number)
    starts_nothing(finds)
    ends_nobody(finds, namesake)
    no_code_of_its_own(finds)
    for name, number in (("listen", _LISTEN), ("accept4", _ACCEPT4), ("memfd_create", _MEMFD_CREATE)):
        finds.call_refused(name, number)
    finds.refused("execve", lambda: os.execve("/usr/bin/true", ["true"], {}))
    for family, kind, protocol in (
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        (socket.AF_UNIX, socket.SOCK_DGRAM, 0),
        (socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_AUDIT),
        (socket.AF_PACKET, socket.SOCK_RAW, 0),
        (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
        (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    ):
        what = f"a socket {family} {kind} {protocol}"
        finds.refused(what, lambda one=family, two=kind, three=protocol: socket.socket(one, two, three))  # type: ignore[misc]
    for path in order.secrets:
        finds.refused(f"reading {path}", lambda path=path: Path(path).read_bytes())  # type: ignore[misc]
    for path in ("/tmp/x", "/etc/x", "/x", "/dev/null", f"{order.readable[0]}/x"):
        finds.refused(f"writing {path}", lambda path=path: Path(path).write_text("x"))  # type: ignore[misc]
    finds.refused("making a directory", lambda: Path("/tmp/x").mkdir())
    seen = {path.name for path in Path("/").iterdir()} & {"home", "root", "var", "srv", "boot", "media", "opt", "run"}
    seen -= {Path(path).parts[1] for path in (*order.readable, *order.hosts)}
    if seen:
        finds.escapes.append(f"it sees /{' /'.join(sorted(seen))}")


def _as_asker(order: Order, finds: Finds) -> None:
    named, other = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    port, elsewhere = named.getsockname()[1], other.getsockname()[1]
    service = f"{order.hosts[0]}/service"
    allowed = Allowed(frozenset({("127.0.0.1", port)}), frozenset({("192.0.2.0/24", port)}))
    plan = ConnectorPlan(allowed, order.program, (sys.executable, "-I"), "CRITICAL", _view(order))
    connector = start_connector(plan)
    for host, number in (
        ("127.0.0.1", elsewhere),
        ("127.0.0.2", port),
        ("localhost", port),
        ("127.1", port),
        ("0x7f000001", port),
        ("2130706433", port),
        ("0.0.0.0", port),
        ("::1", port),
        ("::ffff:127.0.0.1", port),
        ("127.0.0.1 ", port),
        ("127.0.0.1\0.example", port),
        ("127.0.0.1%lo", port),
        ("192.0.3.1", port),
        ("192.0.2.1", elsewhere),
        (f"unix:{service}", 0),
        ("unix:\0gaoler", 0),
        ("", port),
    ):
        finds.refused(f"{host!r} port {number}", lambda host=host, number=number: connector.dial(host, number, _NEVER))  # type: ignore[misc]
    _nonsense(connector)
    _flood(connector, elsewhere)
    if select.select([other], [], [], 0)[0]:
        finds.escapes.append("somebody connected to where nothing may")
    try:
        connector.dial("127.0.0.1", port, _NEVER).close()
    except OSError as error:
        finds.escapes.append(f"after all this it does not dial what is named: {error}")
    connector.close()


def _nonsense(connector: Connector) -> None:
    """Send what is no question, and descriptors that are no sockets."""
    good = wire.encoder.encode(wire.Question("127.0.0.1", 1, _NEVER))
    with open("/dev/null", "rb") as null:  # noqa: PTH123 - a descriptor is what is wanted
        for data, passed in (
            (b"\xc1", []),
            (b"x" * 5000, []),
            (good, []),
            (good, [null.fileno()]),
            (good, [null.fileno()] * 100),
            (good + b"\x00", []),
            (msgspec.msgpack.encode(["127.0.0.1", 1, -1.0]), []),
            (msgspec.msgpack.encode(["127.0.0.1", 1, float("nan")]), []),
            (msgspec.msgpack.encode(["127.0.0.1", 1 << 40, 1.0]), []),
            (msgspec.msgpack.encode({"host": "127.0.0.1"}), []),
        ):
            socket.send_fds(connector.channel, [data], passed)


def _flood(connector: Connector, port: int) -> None:
    """Ask faster than anybody answers, and never look at an answer."""
    question = wire.encoder.encode(wire.Question("127.0.0.1", port, _NEVER))
    for _ in range(_FLOOD):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            try:
                socket.send_fds(connector.channel, [question], [theirs.fileno()])
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise


def main() -> None:
    """Become the role of argv and attack."""
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    finds = Finds()
    {"asker": _as_asker, "connector": _as_connector}[sys.argv[1]](order, finds)
    sys.stdout.write("ESCAPED: " + "; ".join(finds.escapes) if finds.escapes else "CONTAINED")
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
