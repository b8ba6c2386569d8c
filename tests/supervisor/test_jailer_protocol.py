"""A hostile or broken client of the real jailer harms nobody but itself."""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.channels import DATA, MESSAGE, Connection, open_connection
from supervisor.jailer.client import JailRefused, open_jail_on
from tests.daemon import PATIENCE_SECONDS, Daemon, eventually


def frame(number: int, kind: int, payload: bytes) -> bytes:
    return struct.pack("!IIB3s", len(payload), number, kind, b"\0\0\0") + payload


OPEN = protocol.encode(protocol.OpenJail(policy="default"))
BROKEN_FRAMES = {
    "garbage": os.urandom(4096),
    "a huge length": struct.pack("!IIB3s", 0xFFFFFFFF, 1, 1, b"\0\0\0"),
    "data without a file": frame(1, MESSAGE, OPEN) + frame(1, DATA, b"x"),
    "more data than announced": frame(1, MESSAGE, OPEN)
    + frame(1, MESSAGE, protocol.encode(protocol.PutFile(area="workspace", name=b"a", size=1)))
    + frame(1, DATA, b"xx"),
}
BROKEN_CONVERSATIONS = {
    "an undecodable message": frame(1, MESSAGE, b"\xc1\xc1"),
    "an unknown message": frame(1, MESSAGE, msgspec.msgpack.encode({"type": "root-shell"})),
    "an unknown field": frame(
        1, MESSAGE, msgspec.msgpack.encode({"type": "open", "policy": "default", "privileged": True})
    ),
    "a policy that is a path": frame(1, MESSAGE, msgspec.msgpack.encode({"type": "open", "policy": "../x"})),
    "running before opening": frame(
        1, MESSAGE, protocol.encode(protocol.Run(arguments=["/bin/true"], environment={}, seccomp="bash"))
    ),
    "opening twice": frame(1, MESSAGE, OPEN) * 2,
    "reading before the end": frame(1, MESSAGE, OPEN) + frame(1, MESSAGE, protocol.encode(protocol.Scan())),
    "a program beside nobody": frame(1, MESSAGE, protocol.encode(protocol.WriteStdin(data=b"x"))),
}


def more(link: socket.socket, received: bytes) -> bytes:
    """Read what comes next, after what has come; the other side does not close it."""
    data = link.recv(65_536)
    assert data, received
    return received + data


@pytest.mark.root
@pytest.mark.parametrize("attack", BROKEN_CONVERSATIONS.values(), ids=BROKEN_CONVERSATIONS.keys())
def test_one_channel_ends_with_a_logged_reason_and_others_of_its_connection_go_on(
    daemon: Daemon, attack: bytes
) -> None:
    before = len(daemon.lines())
    run = protocol.encode(protocol.Run(arguments=["/bin/true"], environment={}, seccomp="bash"))
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(PATIENCE_SECONDS)
        link.sendall(attack + frame(2, MESSAGE, OPEN) + frame(2, MESSAGE, run))
        received = more(link, b"")
        while b"fault" not in received or b"ended" not in received:
            received = more(link, received)
    eventually(lambda: any("jail lost reason=" in line for line in daemon.lines()[before:]))


@pytest.mark.root
@pytest.mark.parametrize("attack", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_the_connection_is_closed_with_a_logged_reason_and_others_go_on(daemon: Daemon, attack: bytes) -> None:
    before = len(daemon.lines())
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(PATIENCE_SECONDS)
        link.sendall(attack)
        while link.recv(65_536):
            pass
    eventually(lambda: any("connection closed reason=" in line for line in daemon.lines()[before:]))
    assert daemon.execute("echo fine", "bash")["stdout"] == "fine\n"


@pytest.mark.root
@pytest.mark.parametrize(
    "name", [b"../x", b"/etc/x", b"a/../../x", b"a\0b", b"x" * 300, b"a//b", b".", b"a/b/c/d/e/f/g/h/i/j/k"]
)
def test_a_captured_daemon_cannot_write_outside_a_workspace(daemon: Daemon, name: bytes) -> None:
    put = protocol.encode(protocol.PutFile(area="workspace", name=name, size=1))
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(PATIENCE_SECONDS)
        link.sendall(frame(1, MESSAGE, OPEN) + frame(1, MESSAGE, put) + frame(1, DATA, b"x"))
        received = more(link, b"")
        while b"refused" not in received:
            received = more(link, received)
    assert daemon.execute("echo fine", "bash")["stdout"] == "fine\n"


@pytest.mark.root
@pytest.mark.parametrize("name", ["nobody", "default", "parts"])
def test_a_captured_daemon_gets_no_program_without_a_known_profile(daemon: Daemon, name: str) -> None:
    """Neither an unknown one nor the policy's own; and each that is known lies on top of the policy's filter."""
    refused = protocol.Run(arguments=["/bin/true"], environment={}, seccomp=name)
    filters = ["/bin/grep", "-h", "Seccomp_filters:", "/proc/1/status", "/proc/self/status"]
    good = protocol.Run(arguments=filters, environment={}, seccomp="compiler")
    beside = protocol.Background(jail=1, arguments=["/bin/true"], environment={}, seccomp=name)
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(daemon.state_dir / "run" / "jailer.sock"))
        link.settimeout(PATIENCE_SECONDS)
        link.sendall(frame(1, MESSAGE, OPEN) + frame(1, MESSAGE, protocol.encode(refused)))
        received = more(link, b"")
        while b"no seccomp profile named" not in received:
            received = more(link, received)
        link.sendall(frame(2, MESSAGE, protocol.encode(beside)))
        while received.count(b"no seccomp profile named") < 2:
            received = more(link, received)
        link.sendall(frame(1, MESSAGE, protocol.encode(good)))
        while b"ended" not in received:
            received = more(link, received)
    of_init, of_program = map(int, re.findall(rb"Seccomp_filters:\t(\d+)", received))
    assert of_program == of_init + 1


@pytest.mark.root
def test_only_the_daemon_can_reach_the_jailer(daemon: Daemon) -> None:
    run = daemon.state_dir / "run"
    assert (run.stat().st_mode & 0o777, run.stat().st_uid) == (0o700, 199_999)


@given(st.binary(max_size=200))
def test_decoding_either_gives_a_message_or_a_decode_error(payload: bytes) -> None:
    for decode in (protocol.decode_request, protocol.decode_answer):
        try:
            message = decode(payload)
        except msgspec.DecodeError:
            continue
        assert isinstance(message, protocol.Message)


def test_bounds_are_part_of_the_types() -> None:
    for message in (
        {"type": "put", "area": "workspace", "name": b"a", "size": -1},
        {"type": "put", "area": "etc", "name": b"a", "size": 1},
        {"type": "run", "arguments": [], "environment": {}, "seccomp": "bash"},
        {"type": "run", "arguments": ["x"] * 300, "environment": {}, "seccomp": "bash"},
        {"type": "run", "arguments": ["x"], "environment": {}, "seccomp": "bash", "wall_seconds": 0},
        {"type": "run", "arguments": ["x"], "environment": {}},
        {"type": "run", "arguments": ["x"], "environment": {}, "seccomp": ""},
        {"type": "run", "arguments": ["x"], "environment": {}, "seccomp": "watch/default/bash"},
        {"type": "run", "arguments": ["x"], "environment": {}, "seccomp": "bash", "watched": True},
        {"type": "background", "jail": 1, "arguments": ["x"], "environment": {}},
        {"type": "get", "name": b"x" * 5000},
    ):
        with pytest.raises(msgspec.ValidationError):
            protocol.decode_request(msgspec.msgpack.encode(message))


# -- a jail that is refused, as the daemon is told --


async def refuse(server: Connection, reason: str | None, *, after: trio.Event | None = None) -> None:
    """Answer the opening of a channel with a refusal, or with nothing, and close it."""
    channel = await server.accept()
    await channel.receive_message()
    if after is not None:
        await after.wait()
    if reason is not None:
        await channel.send_message(protocol.encode(protocol.Refused(reason=reason)))
    await channel.aclose()


async def content(data: bytes) -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize("tier", ["nsjail", "microvm"])
@pytest.mark.parametrize("late", [False, True])
async def test_the_reason_of_a_refusal_arrives_whenever_it_is_said(tier: protocol.Tier, late: bool) -> None:
    left, right = trio.testing.memory_stream_pair()
    asked = trio.Event()
    async with (
        open_connection(left, accepts=False) as client,
        open_connection(right, accepts=True) as server,
        trio.open_nursery() as nursery,
    ):
        channel = await client.open_channel()
        async with open_jail_on(channel, protocol.OpenJail(policy="default", tier=tier)) as jail:
            await channel.send_message(protocol.encode(protocol.Weigh(share=1.0)))  # nothing is held back any more
            nursery.start_soon(lambda: refuse(server, "no room", after=asked if late else None))
            if late:
                await jail.put_file(b"a", 1, content(b"x"))
                asked.set()
            await channel.peer_gone.wait()
            with pytest.raises(JailRefused, match="no room") as caught:
                await jail.put_file(b"b", 1, content(b"x"))
            assert caught.value.machine == (tier == "microvm")


async def test_a_jail_that_is_lost_without_a_word_is_lost() -> None:
    left, right = trio.testing.memory_stream_pair()
    async with (
        open_connection(left, accepts=False) as client,
        open_connection(right, accepts=True) as server,
        trio.open_nursery() as nursery,
    ):
        channel = await client.open_channel()
        async with open_jail_on(channel, protocol.OpenJail(policy="default")) as jail:
            await channel.send_message(protocol.encode(protocol.Weigh(share=1.0)))
            nursery.start_soon(refuse, server, None)
            await channel.peer_gone.wait()
            with pytest.raises(SandboxFailed, match="lost"):
                await jail.put_file(b"b", 1, content(b"x"))
