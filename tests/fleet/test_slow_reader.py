"""A program that prints faster than its caller reads, through a gateway: the caller learns of each gap and gets the whole
result, the gateway keeps little of it, and nobody else waits.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from tests.daemon import KEY, ROOT, Daemon, eventually
from tests.fleet_world import Fleet, run_fleet

pytestmark = pytest.mark.root

OUTPUT_BYTES: Final = 4 << 20
"""Kept of a stream: more than by default, and more than the way to a reader holds."""
LINES: Final = 4000
LINE: Final = 1000
READERS: Final = 4
MEMORY_BYTES: Final = 24 << 20
"""What a gateway may grow by beside the results, which wait to be read: what it may keep of output is 8 MiB."""
CODE: Final = f"""
import time
for number in range({LINES}):
    print(str(number).rjust({LINE - 1}, '.'), flush=True)
    if number % 8 == 0:
        time.sleep(0.001)
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    policies = tmp_path_factory.mktemp("policies") / "policies"
    shutil.copytree(ROOT / "policies", policies, ignore=shutil.ignore_patterns("__pycache__"))
    path = policies / "sandbox" / "default.toml"
    text = path.read_text()
    assert "output_bytes = 65536 " in text
    path.write_text(text.replace("output_bytes = 65536 ", f"output_bytes = {OUTPUT_BYTES} "))
    with run_fleet(settings={"GAOLER_JAILER_POLICY_DIR": str(policies)}) as world:
        world.start("worker", "w1")
        (gateway,) = world.start("gateway", "g1")
        world.wait_workers(gateway, 1)
        yield world


class SlowReader:
    """A caller of a stream with little room for what it has not read."""

    def __init__(self, daemon: Daemon, code: str) -> None:
        host, _, port = daemon.address.rpartition(":")
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(daemon.patience)
        self._socket.connect((host, int(port)))
        body = json.dumps({"lang": "py", "code": code}).encode()
        # HTTP/1.0: the body comes as it is, and ends with the connection.
        head = f"POST /v1/exec?stream=1 HTTP/1.0\r\nHost: x\r\nX-API-Key: {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        self._file = self._socket.makefile("rb", buffering=4096)

    def begin(self) -> None:
        """Read as far as the first piece of output, and no further."""
        while b"data: " not in (line := self._file.readline()):
            assert line, "it ended before that"

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Read the rest."""
        kind = ""
        for line in self._file:
            name, _, value = line.decode().rstrip("\r\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind:
                yield kind, json.loads(value)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_who_reads_slowly_is_told_of_gaps_gets_the_result_and_holds_up_nobody(fleet: Fleet) -> None:
    gateway = fleet.members["g1"].daemon
    gateway.execute(CODE)
    before = resident(gateway.process.pid)
    with ExitStack() as open_readers:
        # They are there for a while when they have said all, however late somebody looks.
        code = f"{CODE}\ntime.sleep(4)"
        readers = [open_readers.enter_context(closing(SlowReader(gateway, code))) for _ in range(READERS)]
        for reader in readers:
            reader.begin()
        # They read nothing more, and their programs run to their end all the same; so do others'.
        others = 0
        while [line["state"] for line in fleet.ledger().values()].count("running"):
            assert gateway.execute("print(1)", "py")["stdout"] == "1\n"
            others += 1
        assert others
        eventually(lambda: not [line for line in fleet.ledger().values() if line["state"] == "queued"])
        grown = resident(gateway.process.pid) - before
        print(f"\n{others} others meanwhile; the gateway grew by {grown >> 20} MiB")
        assert grown < MEMORY_BYTES + READERS * LINES * LINE
        for reader in readers:
            whole(list(reader.events()))


def whole(events: list[tuple[str, dict[str, Any]]]) -> None:
    *output, (kind, result) = events
    assert kind == "result", result
    assert {kind for kind, _ in output} == {"output"}
    assert result["stdout"] == "".join(f"{number:.>{LINE - 1}}\n" for number in range(LINES))
    heard = sum(len(data["text"]) for _, data in output)
    omitted = sum(data.get("omitted", 0) for _, data in output)
    print(f"{heard} bytes heard, {omitted} told missing in {len(output)} pieces")
    assert omitted > 0
    # All but the first piece, which was read before.
    assert LINES * LINE - 65_536 <= heard + omitted < LINES * LINE
