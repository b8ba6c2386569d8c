"""A real terminal, with a command in it, and somebody who types."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.daemon import PATIENCE_SECONDS, ROOT

COLUMNS, LINES = 100, 30
AGAIN_SECONDS = 2.0
"""After so long without an answer somebody presses a key again."""


class Terminal:
    """Use as a context manager; whatever runs in it then ends with it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path = ROOT) -> None:
        self.text = ""
        self._read_to = 0
        # A read ends anywhere, also within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        waits, begins = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.close(begins)
                os.read(waits, 1)
                os.chdir(cwd)
                os.execvpe(command[0], list(command), dict(environment))
            finally:
                os._exit(127)
        os.close(waits)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.at_first = self.attributes()
        """How it is set before the command begins, which then may set it otherwise."""
        os.close(begins)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exception: object) -> None:
        # Closing it hangs up on all that have it.
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def interrupt(self, wanted: str) -> None:
        """Press Ctrl-C until this comes, as a person does.

        A signal that arrives while CPython's readline looks at a character is seen with the next one.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.type("\x03")
            try:
                self.until(wanted, AGAIN_SECONDS)
            except AssertionError:
                if time.monotonic() > end:
                    raise
            else:
                return

    def until(self, wanted: str, patience: float = PATIENCE_SECONDS) -> str:
        """Read until this has come after what was waited for before; give what came."""
        deadline = time.monotonic() + patience
        while (at := self.text.find(wanted, self._read_to)) < 0:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{wanted!r} did not come after {self.text[self._read_to :][-4000:]!r}"
            self.text += self._read()
        found, self._read_to = self.text[self._read_to : at + len(wanted)], at + len(wanted)
        return found

    def _read(self) -> str:
        try:
            data = os.read(self.fd, 65_536)
        except OSError:
            data = b""
        assert data, f"it ended: {self.text[self._read_to :][-4000:]!r}"
        return self._decoder.decode(data)

    def end(self) -> int:
        """Wait for the command's end; give its status."""
        while True:
            try:
                data = os.read(self.fd, 65_536)
            except OSError:
                break
            if not data:
                break
            self.text += self._decoder.decode(data)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def attributes(self) -> list[object]:
        """How the terminal is set."""
        return termios.tcgetattr(self.fd)
