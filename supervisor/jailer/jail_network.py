"""The network of one jail: what listens in its namespace, and the egress proxy that gets copies."""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import Final

from supervisor.jailer import netns

log: Final = logging.getLogger("gaoler.jailer.jail")


class JailNetwork:
    """What a jail with a network has beside its walls. Whoever makes it calls :meth:`close`."""

    def __init__(self, egress: netns.EgressLink) -> None:
        self._egress = egress
        self._pidfd = -1
        self._listeners: dict[int, list[socket.socket]] = {}
        """By port; the proxy gets copies."""
        self._wanted: tuple[str, list[int]] | None = None
        """The last grant."""
        self._open = False

    async def make(self, pidfd: int) -> None:
        """Make every address local in the namespace of this process, which stays the caller's, and listen there.

        Raises:
            OSError: the kernel refuses a step.
        """
        self._keep(await netns.inside(pidfd, partial(netns.plumb, self._egress.plumbing)))
        self._pidfd = pidfd

    async def connect(self, grant: str, ports: list[int]) -> None:
        """Give it to the proxy; before :meth:`open`, note that it is to be. What fails leaves it without one."""
        self._wanted = (grant, ports)
        if not self._open:
            return
        missing = [port for port in ports if port not in self._listeners]
        if missing:
            try:
                made, faults = await netns.inside(self._pidfd, partial(netns.listen_each, missing))
            except ProcessLookupError:
                return  # rules may change while its programs end: what they have written is still wanted
            except OSError as error:
                log.error("the network of a jail cannot be changed: %s", error)
                return
            self._keep(made)
            for port, fault in faults.items():
                log.warning("port %d of a jail cannot be used: %s", port, fault)
        try:
            self._egress.hand_over(grant, [each for made in self._listeners.values() for each in made])
        except OSError as error:
            log.error("a jail has no network: the proxy takes nothing: %s", error)

    async def open(self) -> None:
        """Note that programs can run; give the network to the proxy, if a grant has come already."""
        self._open = True
        if self._wanted is not None:
            await self.connect(*self._wanted)

    def close(self) -> None:
        """Listen no more. Idempotent."""
        self._open = False
        netns.close_all([each for made in self._listeners.values() for each in made])
        self._listeners.clear()

    def _keep(self, made: list[socket.socket]) -> None:
        for each in made:
            self._listeners.setdefault(each.getsockname()[1], []).append(each)
