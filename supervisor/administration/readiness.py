"""How a process is: alive if it answers at all, ready if everything is there that its work needs.

What is known already is read; stores are asked, all at once, and not again for some seconds, however often somebody
wants to know: the question is open to anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import trio

from supervisor import __version__
from supervisor.core import Core, Prepared
from supervisor.errors import GaolerError
from supervisor.execution.values import SessionId
from supervisor.settings.tree import Settings
from supervisor.stores_in_use import Stores

if TYPE_CHECKING:
    from supervisor.store.s3 import S3Blobs

log: Final = logging.getLogger("gaoler.readiness")

ASK_SECONDS: Final = 5.0
"""For so long an answer of a store holds."""
ANSWER_SECONDS: Final = 2.0
NOBODY: Final = SessionId("readiness-of-gaoler-0")
"""A session that is none."""
NOTHING: Final = "0" * 64
"""The hash of no file."""

Probe = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that has to be there. ``reason``: why it is not; else what there is to say of it."""

    name: str
    ok: bool
    reason: str = ""


@dataclass(slots=True)
class Probes:
    """Questions to stores by name; each raises when it is not answered well."""

    probes: Mapping[str, Probe]
    _answers: list[Check] = field(default_factory=list)
    _asked_at: float = -ASK_SECONDS
    _asking: trio.Lock = field(default_factory=trio.Lock)

    async def checks(self) -> Sequence[Check]:
        """Give their answers, which are at most some seconds old. A caller that is cancelled leaves the old ones."""
        async with self._asking:
            if trio.current_time() - self._asked_at >= ASK_SECONDS:
                found: dict[str, Check] = {}
                async with trio.open_nursery() as nursery:
                    for name, probe in self.probes.items():
                        nursery.start_soon(_ask, name, probe, found)
                self._answers = [found[name] for name in self.probes]
                self._asked_at = trio.current_time()
            return self._answers


async def _ask(name: str, probe: Probe, found: dict[str, Check]) -> None:
    """Named boundary: whatever is wrong with a store, it is said, not raised."""
    found[name] = Check(name, ok=False, reason=f"no answer in {ANSWER_SECONDS:g} s")
    with trio.move_on_after(ANSWER_SECONDS):
        try:
            await probe()
        except GaolerError as error:
            found[name] = Check(name, ok=False, reason=error.message)
        except Exception as error:
            log.error("%s cannot be asked", name, exc_info=error)
            found[name] = Check(name, ok=False, reason="it cannot be asked; the log says why")
        else:
            found[name] = Check(name, ok=True)


def store_probes(settings: Settings, stores: Stores) -> Probes:
    """Ask where sessions and files are. A directory of this host's is not asked: its room is watched."""
    probes: dict[str, Probe] = {
        "redis" if settings.uses_redis else "database": partial(stores.sessions.session, NOBODY, 0.0)
    }
    if settings.s3.url:
        probes["s3"] = partial(cast("S3Blobs", stores.blobs).holds, NOTHING, 0)
    return Probes(probes)


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is. ``status``: in a word or two; ``known``: checks that cost nothing; ``names``: of languages."""

    role: str
    say: Callable[[], str]
    names: Callable[[], Sequence[str]]
    known: Callable[[], Iterator[Check]]
    probes: Probes
    version: str = __version__

    @property
    def status(self) -> str:
        """``ok``, or what is the matter."""
        return self.say()

    @property
    def languages(self) -> tuple[str, ...]:
        """Names of the installed languages."""
        return tuple(self.names())

    async def checks(self) -> Sequence[Check]:
        """Look at everything that is needed."""
        return [*self.known(), *await self.probes.checks()]


def own_health(prepared: Prepared, core: Core) -> Health:
    """Give the health of a process with sandboxes of its own."""
    names = tuple(sorted({each.language.name for each in prepared.languages.values()}))

    def say() -> str:
        if not core.jailer.connected:
            return "unavailable"
        short = ", ".join(core.pressure.resources)
        return f"shedding: {short}" if short else "ok"

    return Health(
        role=prepared.settings.fleet.role,
        say=say,
        names=lambda: names,
        known=partial(_own_checks, prepared, core),
        probes=store_probes(prepared.settings, core.stores),
    )


def _own_checks(prepared: Prepared, core: Core) -> Iterator[Check]:
    jailer = core.jailer.connected
    yield Check("jailer", jailer, "" if jailer else "it is being started again")
    yield Check("image", ok=True, reason=prepared.image_name)
    yield _tier(prepared)
    if core.network.enabled:
        proxy = core.network.connected
        yield Check("egress", proxy, "" if proxy else "the proxy is being started again")
    for resource in ("memory", "disk"):
        short = [each for each in core.pressure.shortages if each.resource == resource]
        yield Check(resource, not short, "; ".join(f"{each.words} ({each.setting})" for each in short))


def _tier(prepared: Prepared) -> Check:
    """A tier that nothing here needs may be missing: who asks for it is told."""
    tiers = prepared.tiers
    if tiers.policy == "microvm" and tiers.unavailable:
        return Check("tier", ok=False, reason=f"microvm: {tiers.unavailable}")
    return Check("tier", ok=True, reason=tiers.best)
