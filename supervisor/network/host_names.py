"""How the host itself finds names: its name servers and its table of names, for the proxy, which cannot look."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from egress.names import BadName, canonical_host

RESOLV_CONF: Final = Path("/etc/resolv.conf")
HOSTS: Final = Path("/etc/hosts")
MAX_SERVERS: Final = 3
"""As resolv.conf(5) has it."""


def name_servers(text: str) -> tuple[str, ...]:
    """Read resolv.conf(5)."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver" and _is_address(words[1]):
            found.append(words[1])
    return tuple(found[:MAX_SERVERS])


def table(text: str) -> dict[str, tuple[str, ...]]:
    """Read hosts(5), without the names of the host itself: those mean something else in a sandbox."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) < 2 or not _is_address(words[0]) or ip_address(words[0]).is_loopback:
            continue
        for word in words[1:]:
            try:
                name = canonical_host(word)
            except BadName:
                continue
            if name.address is None:
                found[name.text] = (*found.get(name.text, ()), words[0])
    return found


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def read(path: Path) -> str:
    """Read one of these files; one that cannot be read says nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def stamp(paths: Sequence[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """Give what changes when one of the files does."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)
