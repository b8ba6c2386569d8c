"""How busy the host's processors are, between one look and the next. Source: proc_stat(5)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STAT: Final = Path("/proc/stat")
_COUNTED: Final = 8
"""user, nice, system, idle, iowait, irq, softirq, steal; what guests use is a part of the first two."""
_IDLE: Final = (3, 4)


class Processors:
    """Remembers the last look. Several may look: who comes within the same moment is told the same."""

    def __init__(self, path: Path = STAT) -> None:
        self._path = path
        self._before: tuple[int, int] | None = None
        self._percent: float | None = None

    def percent(self) -> float | None:
        """Give the busy part since the last look, of all processors together; ``None``: not known yet, or not told."""
        try:
            now = read_times(self._path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
        before = self._before
        if before is None:
            self._before = now
        # A hundred ticks are a second of one processor: of less nothing can be said.
        elif now[1] - before[1] >= 100:
            self._percent = round(100 * (now[0] - before[0]) / (now[1] - before[1]), 1)
            self._before = now
        return self._percent


def read_times(text: str) -> tuple[int, int]:
    """Give ticks that were busy, and all ticks, of all processors together.

    Raises:
        ValueError: it is not what the kernel writes.
    """
    name, *fields = text.partition("\n")[0].split()
    times = [int(each) for each in fields[:_COUNTED]]
    if name != "cpu" or len(times) < max(_IDLE) + 1:
        raise ValueError("no line of all processors")
    return sum(times) - sum(times[each] for each in _IDLE), sum(times)
