"""One attack: what is promised, how it is tried, what it means when it gets through, and how that is mended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from supervisor.attack.target import Target

Place = Literal["daemon", "twin", "internet"]
"""Where a case is tried: at the operator's own daemon; at a twin of it, which may be killed; in a little internet."""
GROUPS: Final = {
    "K": "the kernel's surface",
    "R": "resources",
    "P": "processes and their lifetime",
    "F": "workspace and files",
    "H": "the HTTP API",
    "M": "the MCP server",
    "E": "the network",
    "S": "secrets",
    "D": "our own processes",
}


class Broken(Exception):
    """The attack got through. The message says what was seen."""


class Untried(Exception):
    """It cannot be tried here. The message says why; it counts as nothing, least of all as held."""


Attack = Callable[["Target"], Awaitable[str | None]]
"""Tries it; gives what was seen of the walls, in a few words, if that is worth a line.

Raises:
    Broken: it got through.
    Untried: it cannot be tried here.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One attack. ``id`` is the claim that it tries; several cases may try one."""

    id: str
    name: str
    """Tells the cases of one claim apart; short, in words."""
    promise: str
    meaning: str
    """What somebody can do, if it gets through."""
    mend: str
    """What the operator does then."""
    attack: Attack
    place: Place = "daemon"
    also: tuple[str, ...] = ()
    """More claims that it tries."""

    @property
    def group(self) -> str:
        """The group of the catalogue, a letter of :data:`GROUPS`."""
        return self.id[0] if self.id[0] in GROUPS and self.id[1:2].isdigit() else _GROUP_OF_WORD[self.id.split("-")[0]]


_GROUP_OF_WORD: Final = {"SECCOMP": "K", "STATUS": "K", "FS": "K", "NET": "E"}


class Collection:
    """The cases of one module, in the order in which they stand there."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def case(
        self, claim: str, name: str, *, promise: str, meaning: str, mend: str, place: Place = "daemon"
    ) -> Callable[[Attack], Attack]:
        """Make a case of the function that follows."""

        def add(attack: Attack) -> Attack:
            self.cases.append(Case(claim, name, promise, meaning, mend, attack, place))
            return attack

        return add
