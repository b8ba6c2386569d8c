"""The listeners of one jail, in a network namespace of a process of our own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from supervisor.jailer.jail_network import JailNetwork
from supervisor.jailer.netns import EgressLink
from tests.daemon import eventually

pytestmark = pytest.mark.root
FIRST, SECOND = "a" * 32, "b" * 32


@pytest.fixture
def inhabitant() -> Iterator[subprocess.Popen[bytes]]:
    own = os.readlink("/proc/self/ns/net")
    process = subprocess.Popen(["unshare", "--net", "sleep", "600"])
    try:
        eventually(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != own)
        yield process
    finally:
        process.kill()
        process.wait()


def handed(proxy: socket.socket) -> tuple[bytes, set[int]]:
    """Read a grant and the ports of its listeners."""
    data, fds, _, _ = socket.recv_fds(proxy, 64, 64)
    return data, {_port(fd) for fd in fds}


def _port(fd: int) -> int:
    with socket.socket(fileno=fd) as listener:
        port = listener.getsockname()[1]
        assert isinstance(port, int)
        return port


async def test_rules_that_change_when_its_programs_have_ended_harm_nothing(inhabitant: subprocess.Popen[bytes]) -> None:
    ours, proxy = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pidfd = os.pidfd_open(inhabitant.pid)
    network = JailNetwork(EgressLink(ours))
    try:
        with closing(ours), closing(proxy):
            await network.make(pidfd)
            await network.connect(FIRST, [])
            await network.open()
            grant, first = handed(proxy)
            assert grant == FIRST.encode()
            await network.connect(SECOND, [8081])
            assert handed(proxy) == (SECOND.encode(), first | {8081})
            inhabitant.kill()
            inhabitant.wait()
            await network.connect(FIRST, [8082])
            proxy.setblocking(False)
            with pytest.raises(BlockingIOError):
                handed(proxy)
    finally:
        network.close()
        os.close(pidfd)
