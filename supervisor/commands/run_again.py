"""``gaoler run --watch``: the same run again whenever one of its files changes, until Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import trio

LOOK_SECONDS: Final = 0.2
"""Looking at times of change sees every editor's way to save, on every file system; inotify sees neither a file that is
replaced by renaming, unless the directory is watched, nor one on a network."""
SETTLE_SECONDS: Final = 0.1
"""A file that is being written is looked at again before it is run."""
END_SECONDS: Final = 20.0
_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"

Stamp = tuple[tuple[int, int, int] | None, ...]


def stamp_of(paths: Sequence[Path]) -> Stamp:
    """Say how the files are now; a part is ``None`` for one that is not there."""
    return tuple(map(_stamp, paths))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


async def run_again_and_again(arguments: Sequence[str], paths: Sequence[Path]) -> None:
    """Run ``gaoler`` with these arguments now and at each change of the files; one that still runs is ended first.

    Never returns. Cancelling ends the run and waits until it has cleaned up.
    """
    command = [sys.executable, "-P", "-m", "supervisor", *arguments]
    while True:
        seen = stamp_of(paths)
        if sys.stdout.isatty():
            sys.stdout.write(_CLEAR)
        sys.stdout.flush()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run, command)
            await _changed(paths, seen)
            nursery.cancel_scope.cancel()


async def _run(command: Sequence[str]) -> None:
    # It asks for nothing: what is typed is for us. Of a session of its own, so that Ctrl-C reaches it once, through us.
    status = await trio.run_process(
        command, stdin=subprocess.DEVNULL, check=False, deliver_cancel=_interrupt, start_new_session=True
    )
    code = status.returncode
    sys.stderr.write(f"gaoler: ended with {code}; waiting for a change, Ctrl-C ends\n")
    sys.stderr.flush()


async def _interrupt(process: trio.Process) -> None:
    """Interrupt it; it then gives back what it has made. One that does not end is killed."""
    process.send_signal(signal.SIGINT)
    with trio.CancelScope(shield=True), trio.move_on_after(END_SECONDS):
        await process.wait()
        return
    process.kill()


async def _changed(paths: Sequence[Path], seen: Stamp) -> None:
    """Wait until a file is another than it was, all of them are there, and no longer being written."""
    while True:
        await trio.sleep(LOOK_SECONDS)
        now = stamp_of(paths)
        if now == seen or None in now:
            continue
        await trio.sleep(SETTLE_SECONDS)
        if stamp_of(paths) == now:
            return


def watched(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Give the paths as they are looked at, wherever we stand then."""
    return [Path(each).absolute() for each in paths]
