"""What an operator asks of a running daemon: its rules of the network, and figures. Values for the doors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from supervisor.core import Core
from supervisor.network.rule_files import RuleSet
from supervisor.pressure import Pressure

Sample = tuple[str, str, str, dict[str, str], float]
"""Name, type, help, labels, value."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Looks at the objects of the core; changes the rules."""

    core: Core

    def egress(self) -> dict[str, Any]:
        """Give the rules that hold now."""
        sets = self.core.rules.sets
        return {
            "enabled": self.core.network.enabled,
            "connected": self.core.network.connected,
            "sets": [_described(each) for each in sets.values()],
        }

    async def put_egress(self, name: str, payload: bytes) -> dict[str, Any]:
        """Replace the rules of a name; they hold when this returns, unless ``applied`` says that no proxy answered.

        Raises:
            NotFound, InvalidRequest: as :meth:`supervisor.network.rules_in_force.RulesInForce.put`.
        """
        made = self.core.rules.put(name, payload)
        return {**_described(made), "applied": await self._apply()}

    async def drop_egress(self, name: str) -> dict[str, Any]:
        """Go back to the file's rules.

        Raises:
            NotFound, InvalidRequest: as :meth:`supervisor.network.rules_in_force.RulesInForce.drop`.
        """
        made = self.core.rules.drop(name)
        return {**_described(made), "applied": await self._apply()}

    async def _apply(self) -> bool:
        """Say whether the proxy does what was changed; one that is gone is told when it comes."""
        await self.core.network.reconfigure()
        return await self.core.network.settle()

    def metrics(self) -> str:
        """Give all figures in the text format of Prometheus."""
        return as_text(self._samples())

    def _samples(self) -> Iterator[Sample]:
        core, network = self.core, self.core.network
        yield from of_pressure(core.pressure)
        audit = network.audit
        yield "gaoler_jailer_connected", "gauge", "There is a jailer.", {}, float(core.jailer.connected)
        yield "gaoler_live_sessions", "gauge", "Sessions with an interpreter.", {}, float(core.live.count)
        yield "gaoler_egress_connected", "gauge", "There is an egress proxy.", {}, float(network.connected)
        yield "gaoler_egress_restarts_total", "counter", "Later egress proxies.", {}, float(max(0, network.restarts))
        yield "gaoler_egress_grants", "gauge", "Sandboxes that have a network.", {}, float(network.open_grants)
        for (kind, verdict), count in sorted(audit.verdicts.items()):
            labels = {"kind": kind, "verdict": verdict}
            yield "gaoler_egress_decisions_total", "counter", "Decisions of the egress proxy.", labels, float(count)
        for code, count in sorted(audit.refusals.items()):
            yield "gaoler_egress_refusals_total", "counter", "Why it said no.", {"code": code}, float(count)
        help_text = "Bytes through the egress proxy."
        yield "gaoler_egress_bytes_total", "counter", help_text, {"direction": "sent"}, float(audit.sent_bytes)
        yield "gaoler_egress_bytes_total", "counter", help_text, {"direction": "received"}, float(audit.received_bytes)
        yield "gaoler_egress_unwritten_total", "counter", "Refusals only counted.", {}, float(audit.suppressed)
        yield "gaoler_egress_audit_failures_total", "counter", "Lines that were lost.", {}, float(audit.write_failures)
        yield "gaoler_egress_rule_faults_total", "counter", "Changed rules not taken.", {}, float(core.rules.faults)


def as_text(samples: Iterable[Sample]) -> str:
    """Write figures in the text format of Prometheus; those of one name have to come together."""
    lines: list[str] = []
    known: set[str] = set()
    for name, kind, text, labels, value in samples:
        if name not in known:
            known.add(name)
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
        shown = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels.items())
        lines.append(f"{name}{{{shown}}} {value:g}" if shown else f"{name} {value:g}")
    return "\n".join(lines) + "\n"


def of_pressure(pressure: Pressure) -> Iterator[Sample]:
    """Give the figures of what the host is short of."""
    for resource in ("memory", "disk"):
        labels = {"resource": resource}
        short = float(resource in pressure.resources)
        yield "gaoler_shedding", "gauge", "New work is refused for want of it.", labels, short
    for resource in ("memory", "disk"):
        labels, count = {"resource": resource}, float(pressure.refused[resource])
        yield "gaoler_shed_total", "counter", "Work refused for want of it.", labels, count
    reading = pressure.reading
    if reading is not None:
        yield "gaoler_memory_free_bytes", "gauge", "What there is.", {}, float(reading.free_memory_bytes)
        yield "gaoler_disk_free_bytes", "gauge", "Where the state is.", {}, float(reading.free_disk_bytes)
        if reading.free_disk_inodes is not None:
            yield "gaoler_disk_free_inodes", "gauge", "Where the state is.", {}, float(reading.free_disk_inodes)


def _described(each: RuleSet) -> dict[str, Any]:
    rules = [
        {key: value for key, value in msgspec.to_builtins(rule).items() if value not in (None, (), [], False)}
        for rule in each.rules
    ]
    return {"name": each.name, "origin": each.origin, "rules": rules}


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
