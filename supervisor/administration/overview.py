"""What a process is and has to do, in one answer. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from supervisor.activity.totals import Totals
from supervisor.admission.pressure import Pressure


class About(Struct, frozen=True, kw_only=True):
    """What does not change while a process runs. ``started_at`` in seconds since the epoch."""

    role: str
    name: str
    version: str
    started_at: float
    policy: str
    image: str
    """Name of the runtime image; empty: this process has none."""


class Load(Struct, frozen=True, kw_only=True):
    """How much it has to do now; what a process does not have is left out."""

    running: int
    waiting: int
    places: int
    live_sessions: int | UnsetType = UNSET
    programs_waiting: int | UnsetType = UNSET
    """Programs that call their caller's tools, which mostly wait for these."""
    cpu_percent: float | None = None
    """Of the host; ``None``: not known yet."""
    memory_free_bytes: int | UnsetType = UNSET
    disk_free_bytes: int | UnsetType = UNSET
    shedding: Sequence[str] = ()
    """What the host is short of, for which new work is refused."""


class Pool(Struct, frozen=True):
    """Cells that wait: how many now (``None``: the jailer does not say), at least, at most."""

    policy: str
    profile: str | None
    waiting: int | None
    floor: int
    ceiling: int


def host_load(pressure: Pressure) -> dict[str, Any]:
    """Give what is known of the host, as fields of :class:`Load`."""
    reading = pressure.reading
    if reading is None:
        return {"shedding": pressure.resources}
    return {
        "shedding": pressure.resources,
        "memory_free_bytes": reading.free_memory_bytes,
        "disk_free_bytes": reading.free_disk_bytes,
    }


def overview(about: About, load: Load, pools: Sequence[Pool], totals: Totals, now: float) -> dict[str, Any]:
    """Put everything together but the counts by minute."""
    outcomes: Counter[str] = Counter()
    for (_door, _language, outcome), count in totals.outcomes.items():
        outcomes[outcome] += count
    return {
        **msgspec.structs.asdict(about),
        "now": now,
        "load": load,
        "pools": pools,
        "totals": {
            "outcomes": dict(outcomes),
            "executions": outcomes.total(),
            "cpu_seconds": totals.cpu_seconds,
            "output_bytes": totals.output_bytes,
            "files": totals.files,
        },
        "latencies": totals.latencies(),
    }
