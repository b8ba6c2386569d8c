"""The languages of a fleet: installed is what one of its workers has. Pure but for the one place that is replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from supervisor.errors import InvalidRequest, Unsupported
from supervisor.runtimes.language_view import GroupView, LanguageTable, LanguageView, TierView

_decoder: Final = msgspec.msgpack.Decoder(LanguageTable)
_View = TypeVar("_View", LanguageView, GroupView)


def encode_table(table: LanguageTable) -> bytes:
    """Write down what a worker tells of its languages."""
    return msgspec.msgpack.encode(table)


def decode_table(written: bytes) -> LanguageTable | None:
    """Read it; ``None``: it is of another version of ours."""
    try:
        return _decoder.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def merged(own: LanguageTable, tables: Iterable[LanguageTable]) -> LanguageTable:
    """Put together what there is. ``own``: what is said while no worker has said anything.

    Limits are of the policy, which is the same everywhere; a tier is to be had if one worker has it.
    """
    found = list(tables)
    if not found:
        return own
    first = found[0]
    return LanguageTable(
        _best([each.languages for each in found]),
        _best([each.groups for each in found]),
        first.limits,
        _tiers([each.tiers for each in found]),
    )


def _best(tables: Sequence[tuple[_View, ...]]) -> tuple[_View, ...]:
    by_name: dict[str, _View] = {}
    for table in tables:
        for view in table:
            if view.name not in by_name or (view.installed and not by_name[view.name].installed):
                by_name[view.name] = view
    return tuple(by_name[name] for name in sorted(by_name))


def _tiers(tables: Sequence[tuple[TierView, ...]]) -> tuple[TierView, ...]:
    by_name: dict[str, TierView] = {}
    for table in tables:
        for view in table:
            if view.name not in by_name or not view.reason:
                by_name[view.name] = view
    return tuple(by_name.values())


@dataclass(slots=True)
class FleetLanguages:
    """A :class:`supervisor.runtimes.language_view.Languages` that follows the fleet."""

    current: LanguageTable

    @property
    def languages(self) -> tuple[LanguageView, ...]:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.languages

    @property
    def groups(self) -> tuple[GroupView, ...]:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.groups

    @property
    def limits(self) -> Mapping[str, float]:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.limits

    @property
    def tiers(self) -> tuple[TierView, ...]:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.tiers

    def find(self, name: str) -> LanguageView | None:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.find(name)

    def of_file(self, name: str) -> str:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.of_file(name)

    def refusal(self, name: str) -> InvalidRequest | Unsupported:
        """See :class:`supervisor.runtimes.language_view.Languages`."""
        return self.current.refusal(name)
