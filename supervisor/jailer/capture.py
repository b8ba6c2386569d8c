"""Keep the head and the tail of an output stream in bounded memory. Pure; the caller reads the pipe."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class StreamCapture:
    """Sorts the bytes of one stream: the first half of ``keep_bytes`` goes out at once, of the rest the end is kept."""

    keep_bytes: int
    kill_bytes: int
    total_bytes: int = 0
    _tail: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> bytes:
        """Take what was read; return what of it belongs to the head and can be passed on now."""
        head_left = max(0, self.keep_bytes // 2 - self.total_bytes)
        self.total_bytes += len(data)
        head, rest = data[:head_left], data[head_left:]
        if rest:
            self._tail += rest
            if len(self._tail) > 2 * self.keep_bytes:
                self._trim()
        return head

    def finish(self) -> tuple[int, bytes]:
        """Return how many bytes were cut between head and tail, and the tail."""
        self._trim()
        sent = min(self.total_bytes, self.keep_bytes // 2)
        return self.total_bytes - sent - len(self._tail), bytes(self._tail)

    @property
    def flooded(self) -> bool:
        """The stream is longer than what a program may write at all."""
        return self.total_bytes > self.kill_bytes

    def _trim(self) -> None:
        room = self.keep_bytes - self.keep_bytes // 2
        if len(self._tail) > room:
            del self._tail[:-room]
