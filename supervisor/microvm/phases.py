"""How long a virtual machine took to what, for the log: an operator sees there whether boots are slow, and where."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

log: Final = logging.getLogger("gaoler.microvm")


class Phases:
    """Seconds since this was made, by the name of what was reached."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._reached: dict[str, float] = {}

    def reach(self, name: str) -> None:
        """Note that it has come so far."""
        self._reached[name] = time.monotonic() - self._began

    def tell(self, untrusted_console: Sequence[str]) -> None:
        """Say all of it, and for whoever debugs what the guest itself has said; its lines are printable."""
        told = " ".join(f"{name}={seconds:.3f}" for name, seconds in self._reached.items())
        log.info("virtual machine ready %s", told)
        for line in untrusted_console:
            log.debug("its console: %s", line)
