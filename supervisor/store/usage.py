"""What callers have used, day by day, behind a small protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Used(Struct, frozen=True, order=True, kw_only=True):
    """What one caller has used in one day (UTC, ``YYYY-MM-DD``). ``user``: empty if the caller named nobody."""

    day: str
    tenant: str
    credential: str
    user: str
    executions: int = 0
    failed: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    output_bytes: int = 0
    files: int = 0

    @property
    def who(self) -> tuple[str, str, str, str]:
        """Give day and caller."""
        return self.day, self.tenant, self.credential, self.user


COUNTS = ("executions", "failed", "wall_seconds", "cpu_seconds", "output_bytes", "files")


class UsageStore(Protocol):
    """Adds up. Every call is one transaction."""

    async def add(self, used: Sequence[Used]) -> None:
        """Add to what is kept; each caller and day comes at most once."""

    async def between(self, first: str, last: str, tenant: str | None, limit: int) -> list[Used]:
        """Give what was used on these days and between them, the latest day first, then by caller."""

    async def forget(self, before: str) -> None:
        """Forget the days before this one."""
