"""Who is told of executions as they happen: each costs every execution a little, so there is a limit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Followers:
    """Counts them; at most ``most`` at once."""

    most: int
    count: int = 0

    @property
    def full(self) -> bool:
        """No more may."""
        return self.count >= self.most

    def enter(self) -> bool:
        """Count one more; ``False``: no more may."""
        if self.full:
            return False
        self.count += 1
        return True

    def leave(self) -> None:
        """One has gone."""
        self.count -= 1
