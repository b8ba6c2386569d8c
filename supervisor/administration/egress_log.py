"""What the egress proxy decided lately, and which rule would allow what it refused."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import trio

from egress import addresses
from egress.names import BadName, canonical_host
from supervisor.logs.json_lines import latest

MOST_BYTES: Final = 64 << 20
"""Of the log that is looked through for one answer."""
_MENDED: Final = frozenset({"host", "port", "scheme"})
"""Codes of refusals that a new rule would mend. One for a method or a path is meant so by whoever wrote the rule, an
address is private, and the others are tricks, or broken."""
_SCHEMES: Final = {"http": "http", "raw": "raw"}
_SHOWN: Final = ("session", "tenant", "credential", "user", "kind", "method", "host", "port", "path", "verdict")
_WHY: Final = ("code", "reason", "rule", "suppressed")


async def egress_log(path: Path, verdict: str, limit: int, sets: tuple[str, ...]) -> list[dict[str, Any]]:
    """Give the latest records, the latest first. ``sets``: names of rules that may be edited; the first is suggested.

    Raises:
        OSError: the log cannot be read.
    """

    def look() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for line in latest(path, MOST_BYTES):
            if verdict == "all" or line.get("verdict") == verdict:
                found.append(_record(line, sets))
            if len(found) == limit:
                break
        return found

    return await trio.to_thread.run_sync(look)


def _record(line: Mapping[str, Any], sets: tuple[str, ...]) -> dict[str, Any]:
    record: dict[str, Any] = {"time": _seconds(line.get("time"))}
    record |= {name: line[name] for name in (*_SHOWN, *_WHY) if name in line}
    rule = suggestion(line)
    return {**record, "suggestion": {"set": sets[0], "rule": rule} if rule is not None and sets else None}


def suggestion(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """Write the rule that would allow what was refused, if one may. The log repeats what sandboxes said.

    Never for an address that no rule opens without naming it: of a private network, of the host itself.
    """
    if line.get("verdict") != "refused" or line.get("code") not in _MENDED:
        return None
    try:
        host = canonical_host(str(line.get("host", "")))
    except BadName:
        return None
    if host.address is not None and addresses.fault(host.address, ()) is not None:
        return None
    kind, port = str(line.get("kind")), line.get("port")
    if kind == "dns":
        kind, port = "https", 443
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65_536:
        return None
    scheme = _SCHEMES.get(kind, "https")
    return {"hosts": [host.text], "schemes": [scheme], "ports": [port], "reason": "allowed by an operator"}


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
