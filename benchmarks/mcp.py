"""What the MCP door costs beside the HTTP door: ``execute_code`` with ``print(1)`` and ``POST /exec`` with the same.

The calls of all rows take turns, so that they meet the same machine. "bare" is a kept connection that does what the
protocol asks and nothing more; "client" is the official Python client, whose own work is in its figure.
"""

from __future__ import annotations

import http.client
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import trio

from benchmarks.common import Client, measured_daemon, row
from tests.daemon import KEY, Daemon
from tests.mcp import connected, initialize

GAP_SECONDS = 0.05
CODE = "print(1)"
SMALL = "import PIL.Image; display(PIL.Image.new('RGB', (600, 400)))"
LARGE = "import PIL.Image; display(PIL.Image.new('RGB', (3000, 2000)))"


class Bare:
    """One kept connection of the handshake era."""

    def __init__(self, daemon: Daemon) -> None:
        self._connection = http.client.HTTPConnection(daemon.address, timeout=120)
        self._headers = {
            "X-API-Key": KEY,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "Mcp-Session-Id": initialize(daemon),
        }
        self._number = 10

    def run(self, **arguments: Any) -> None:
        """Call ``execute_code`` with ``print(1)``, or what is given."""
        self.call("execute_code", **{"code": CODE, **arguments})

    def call(self, tool: str, **arguments: Any) -> None:
        """Call a tool and check that it went well."""
        self._number += 1
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": self._number, "method": "tools/call", "params": params}
        self._connection.request("POST", "/mcp", json.dumps(message), self._headers)
        body = self._connection.getresponse().read()
        if b'"isError":false' not in body or b'"status":"error"' in body:
            raise SystemExit(f"unexpected answer: {body[:500]!r}")


@click.command()
@click.option("--image-dir", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--runs", default=80, help="Measured runs of each row.")
def main(image_dir: Path, runs: int) -> None:
    """Start a daemon, measure, stop it."""
    with measured_daemon(image_dir) as daemon:
        trio.run(_measure, daemon, runs)


async def _measure(daemon: Daemon, runs: int) -> None:
    http_door = Client(daemon.address)
    bare = Bare(daemon)
    live = http_door.execute("py", CODE, stateful=True)["session_id"]
    async with (
        connected(daemon, user=None, conversation="bench", mode="legacy") as older,
        connected(daemon, user=None, conversation="bench2") as newer,
    ):

        async def sync(work: Callable[[], object]) -> None:
            work()

        rows: dict[str, Callable[[], Awaitable[object]]] = {
            "HTTP, a new sandbox": lambda: sync(lambda: http_door.execute("py", CODE)),
            "MCP bare, a new sandbox": lambda: sync(lambda: bare.run(stateful=False)),
            "HTTP, a live session": lambda: sync(lambda: http_door.execute("py", CODE, stateful=True, session_id=live)),
            "MCP bare, a live session": lambda: sync(bare.run),
            "MCP bare, list_files (no sandbox)": lambda: sync(lambda: bare.call("list_files")),
            "MCP bare, a picture as it is": lambda: sync(lambda: bare.run(code=SMALL)),
            "MCP bare, a picture that is scaled": lambda: sync(lambda: bare.run(code=LARGE)),
            "MCP client 2025-11-25, a live session": lambda: older.call("execute_code", code=CODE),
            "MCP client 2026-07-28, a live session": lambda: newer.call("execute_code", code=CODE),
        }
        times: dict[str, list[float]] = {name: [] for name in rows}
        for number in range(runs + runs // 10):
            for name, work in rows.items():
                started = time.perf_counter()
                await work()
                if number >= runs // 10:
                    times[name].append((time.perf_counter() - started) * 1000)
                await trio.sleep(GAP_SECONDS)
    print(
        f"execute_code and POST /exec with {CODE}, one caller, {GAP_SECONDS * 1000:.0f} ms between calls, {runs} each:"
    )
    for name, durations in times.items():
        row(name, sorted(durations))
    for kind in ("a new sandbox", "a live session"):
        more = statistics.median(times[f"MCP bare, {kind}"]) - statistics.median(times[f"HTTP, {kind}"])
        print(f"  {kind}: MCP takes {more:+.1f} ms more than HTTP at the median (asked: at most +6)")
    more = statistics.median(times["MCP client 2026-07-28, a live session"])
    more -= statistics.median(times["HTTP, a live session"])
    print(f"  with the official client's own work: {more:+.1f} ms")
    http_door.close()


if __name__ == "__main__":
    main()
