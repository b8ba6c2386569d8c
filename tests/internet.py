"""Daemons in the little internet of the attack suite (:mod:`supervisor.attack.internet`)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.attack.internet import (
    HOST,
    METADATA,
    NAME_SERVER,
    OTHER_WEB,
    PRIVATE,
    SECRET_SERVICE_PORT,
    WEB,
    Hit,
    Internet,
    open_internet,
)
from supervisor.attack.network import policies_with
from supervisor.jailer.cgroup_subtree import remove_subtree
from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import GAOLER, Daemon, end_daemons, eventually, spawn_daemon, wait_listening

__all__ = [
    "HOST",
    "METADATA",
    "NAME_SERVER",
    "OTHER_WEB",
    "PRIVATE",
    "SECRET_SERVICE_PORT",
    "WEB",
    "Hit",
    "Internet",
    "Online",
    "online_daemon",
    "open_internet",
    "policies_with",
    "starting_online",
]


@dataclass
class Online(Daemon):
    """A daemon that lives in the little internet; tests reach it over a unix socket."""

    internet: Internet = field(default=None, kw_only=True)  # type: ignore[assignment]
    policies: Path = field(default=Path(), kw_only=True)

    def audit(self) -> list[dict[str, Any]]:
        path = self.state_dir / "data" / "egress.jsonl"
        lines = path.read_text().split("\n") if path.exists() else [""]
        # Behind the last line end: nothing, or one that is half written.
        return [json.loads(line) for line in lines[:-1]]

    def audit_of(self, session: str, count: int) -> list[dict[str, Any]]:
        """Give the lines of a session, of which there are so many as soon as all are written."""

        def lines() -> list[dict[str, Any]]:
            return [each for each in self.audit() if each["session"] == session]

        eventually(lambda: len(lines()) >= count)
        return lines()

    def set_rules(self, name: str, text: str) -> None:
        """Replace a rule file, as an editor does."""
        path = self.policies / "egress" / f"{name}.toml"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)


@contextmanager
def starting_online(
    image: Path,
    internet: Internet,
    rules: Mapping[str, str],
    settings: Mapping[str, str] | None = None,
    program: Sequence[str] = GAOLER,
) -> Iterator[Callable[[], Online]]:
    """A daemon in the little internet that is on its way, for the block; the function waits until it listens."""
    state = Path(tempfile.mkdtemp(prefix="gt-"))
    state.chmod(0o755)
    policies = state / "policies"
    address = f"unix:{state}/run/door.sock"
    try:
        policies_with(policies, PACKAGED_POLICIES, rules)
        process = spawn_daemon(
            state,
            image,
            settings={
                "GAOLER_BIND": address,
                "GAOLER_JAILER_POLICY_DIR": str(policies),
                "GAOLER_EGRESS_NAME_SERVERS": NAME_SERVER,
                "GAOLER_HTTP_AUTHENTICATION": "true",
                **(settings or {}),
            },
            prefix=("nsenter", f"--net=/proc/{os.getpid()}/fd/{internet.host_fd}"),
            program=program,
        )

        def listening() -> Online:
            wait_listening(process, state)
            return Online(process, state, address, internet=internet, policies=policies)

        yield listening
    finally:
        end_daemons(state)
        eventually(lambda: _removed(state))
        shutil.rmtree(state)


def _removed(state: Path) -> bool:
    """Remove the cgroups; that of a virtual machine, whose memory has to be given back, is busy for a moment more."""
    try:
        remove_subtree(state)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@contextmanager
def online_daemon(
    image: Path, internet: Internet, rules: Mapping[str, str], settings: Mapping[str, str] | None = None
) -> Iterator[Online]:
    """A daemon in the little internet, for the block."""
    with starting_online(image, internet, rules, settings) as listening:
        daemon = listening()
        yield daemon
        daemon.stop()
