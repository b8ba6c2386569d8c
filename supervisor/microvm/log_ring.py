"""What a virtual machine and its helper have said last: untrusted, bounded, and harmless where it is shown."""

from __future__ import annotations

from typing import Final

LOG_BYTES: Final = 64 << 10
"""Of what guest and helper have said last."""
SHOWN_CHARACTERS: Final = 300


class LogRing:
    """The last :data:`LOG_BYTES` of what was written; untrusted."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Keep it, and forget what is older."""
        self._kept += data
        del self._kept[:-LOG_BYTES]

    def content(self) -> bytes:
        """Give all that is kept."""
        return bytes(self._kept)

    def last_words(self) -> str:
        """Give the last line that says anything, in printable ASCII."""
        return next(iter(self.last_lines(1)), "")

    def last_lines(self, count: int) -> list[str]:
        """Give so many of the last lines that say anything, in printable ASCII, none of them long."""
        lines = [line.strip() for line in self._kept.decode("ascii", "replace").splitlines()]
        return [_printable(line)[-SHOWN_CHARACTERS:] for line in lines if line][-count:]


def _printable(line: str) -> str:
    return "".join(each if " " <= each <= "~" else "?" for each in line)
