"""Figures in the text format of Prometheus, version 0.0.4. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from supervisor.metrics.catalogue import FAMILIES, Family

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Buckets:
    """A histogram: ``counts`` of what is at most each of the ``bounds``, not summed up, and of what is larger."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


@dataclass(frozen=True, slots=True)
class Point:
    """One figure: the name of its family, the values of the family's labels in their order, what it is."""

    name: str
    value: float | Buckets
    labels: tuple[str, ...] = ()


def as_text(points: Iterable[Point]) -> str:
    """Write figures down, those of a family together, in the order in which the families first come.

    Raises:
        KeyError: a name that is not in the catalogue.
        ValueError: not the labels that its family has.
    """
    families: dict[str, list[Point]] = {}
    for point in points:
        families.setdefault(point.name, []).append(point)
    lines: list[str] = []
    for name, its in families.items():
        family = FAMILIES[name]
        lines += [f"# HELP {name} {family.help}", f"# TYPE {name} {family.kind}"]
        for point in its:
            lines += _lines(family, point)
    return "\n".join(lines) + "\n"


def _lines(family: Family, point: Point) -> list[str]:
    labels = [f'{name}="{_escaped(value)}"' for name, value in zip(family.labels, point.labels, strict=True)]
    value = point.value
    if not isinstance(value, Buckets):
        return [f"{_named(family.name, labels)} {number(value)}"]
    written, seen = [], 0
    for bound, count in zip((*value.bounds, math.inf), value.counts, strict=True):
        seen += count
        within = [*labels, f'le="{number(bound)}"']
        written.append(f"{_named(family.name + '_bucket', within)} {seen}")
    return [
        *written,
        f"{_named(family.name + '_sum', labels)} {number(value.total)}",
        f"{_named(family.name + '_count', labels)} {seen}",
    ]


def _named(name: str, labels: Sequence[str]) -> str:
    return f"{name}{{{','.join(labels)}}}" if labels else name


def number(value: float) -> str:
    """Write a number so that nothing of it is lost."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
