"""What lasting sessions work with: their limits, and the objects that all of them share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.admission.admission import Admission
from supervisor.execution.in_jail import InJail
from supervisor.execution.inputs import InputResolver
from supervisor.execution.values import SessionId, Tier
from supervisor.files.service import FileService
from supervisor.jailer.client import JailerClient
from supervisor.live.lease import Holds
from supervisor.live.processes import ProcessLimits
from supervisor.network.grants import Network


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """How many, how long, how much."""

    sessions: int
    sessions_per_owner: int
    idle_seconds: float
    state_bytes: int
    archive_seconds: float
    save_seconds: float
    interrupt_seconds: float
    policy: str
    profile: str
    """Of the interpreter that every lasting session has, whatever its first execution is."""
    process: ProcessLimits
    processes_per_owner: int
    best_tier: Tier
    """The highest that this host gives."""
    machines: int
    """So many of them may have a virtual machine at a time."""
    snapshot_seconds: float | None = None
    """Variables are saved so long after each execution too; ``None``: only when the session ends."""


@dataclass(frozen=True, slots=True)
class Means:
    """What all sessions work with."""

    jailer: JailerClient
    files: FileService
    resolver: InputResolver
    work: InJail
    admission: Admission
    network: Network
    limits: LiveLimits
    note_loss: Callable[[SessionId, str], None]
    """Remember why the state of a session is gone, until it is told."""
    take_loss: Callable[[SessionId], str | None]
    holds: Holds
    saves: Counter[str] = field(default_factory=Counter)
    """Interpreters written down: ``done`` and ``failed``."""
    restores: Counter[str] = field(default_factory=Counter)
    """Interpreters brought back, by the same words."""
