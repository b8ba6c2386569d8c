"""What other servers call our settings: read where nothing of ours says otherwise, or the reason why it is not.

The rows are in :mod:`supervisor.settings.theirs` and :mod:`supervisor.settings.theirs_api`; the table of
``docs/configuration.md`` is generated from them. An empty value is none: Compose files pass what is not set as that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from supervisor.errors import ConfigurationError

Others = Mapping[str, str]
"""All of the environment: some names say something only together."""
_LINK: Final = "tcp://"
Reading = Callable[[str, Others], Any]
"""Turns their value into ours.

Raises:
    Unread: it says nothing here, as things are.
    ValueError: it cannot be one of ours; the words say the rule.
"""


class Unread(Exception):
    """The variable is set, and means nothing as things are; the words say why."""


@dataclass(frozen=True, slots=True)
class Theirs:
    """A variable of another server: what it is read as, or why it is not."""

    server: str
    name: str
    default: str
    """Theirs; empty: none."""
    key: str = ""
    """Ours that says the same. Empty: there is none."""
    reading: Reading | None = None
    """``None``: it is not read."""
    why: str = ""
    """What differs, or why it is not read."""
    serving: bool = False
    """Read by ``gaoler serve`` alone: the name is anybody's, or only a daemon has to know."""
    common: bool = False
    """So common a name that nobody is told that it is not read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row whose variable is set. ``key`` is empty if it is not read, and ``why`` says why."""

    name: str
    key: str = ""
    value: Any = None
    why: str = ""


def origin_of(name: str) -> str:
    """Say where a value came from."""
    return f"environment {name}"


def find_aliases(rows: Iterable[Theirs], environment: Others, *, serving: bool) -> Iterator[Found]:
    """Give what the environment says in other servers' words, ``rows``.

    Raises:
        ConfigurationError: a value cannot hold here; the message names the variable and the rule.
    """
    for row in rows:
        value = environment.get(row.name, "").strip()
        if not value or (row.serving and not serving):
            continue
        if row.reading is None:
            if not row.common:
                yield Found(row.name, why=row.why)
            continue
        try:
            read = row.reading(value, environment)
        except Unread as unread:
            yield Found(row.name, why=str(unread))
        except ValueError as error:
            raise ConfigurationError(f"{origin_of(row.name)}: {error}", field=row.key or row.name) from None
        else:
            if row.key:
                yield Found(row.name, row.key, read)


def given(environment: Others, name: str) -> str:
    """Give a variable without white space around it; empty if it is not set."""
    return environment.get(name, "").strip()


def as_it_is(value: str, _others: Others) -> str:
    """Ours is the same, in the same unit."""
    return value


def a_port(value: str, _others: Others) -> str:
    """Ours is the same, unless it is what Kubernetes says where a service of that name is."""
    if value.startswith(_LINK):
        raise Unread("it is Kubernetes' link to a service")
    return value


def in_capitals(value: str, _others: Others) -> str:
    """Ours is written in capitals."""
    return value.upper()


def in_small_letters(value: str, _others: Others) -> str:
    """Ours is written in small letters."""
    return value.lower()


def times(factor: int, unit: str) -> Reading:
    """Ours is so many times theirs, which is in ``unit``; a whole number stays one."""

    def read(value: str, _others: Others) -> float | int:
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not allowed: a number of {unit}") from None
        if not 0 <= number < 1e15:
            raise ValueError(f"{value!r} is not allowed: a number of {unit}, 0 or more")
        result = number * factor
        return int(result) if result.is_integer() else result

    return read


def whole(factor: int, unit: str) -> Reading:
    """Do as :func:`times`, for ours that are whole numbers."""
    scaled = times(factor, unit)
    return lambda value, others: int(scaled(value, others))


def truth(value: str) -> bool:
    """Read one of theirs that is true or false.

    Raises:
        ValueError: it is neither.
    """
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return known[value.lower()]
    except KeyError:
        raise ValueError(f"{value!r} is not allowed: true or false") from None


def switch(value: str, _others: Others) -> bool:
    """Ours is true when theirs is."""
    return truth(value)


def only(wanted: bool, rule: str) -> Reading:  # noqa: FBT001 - reads as one: only(True, ...)
    """Refuse the other value: what it asks for does not exist here, and nobody should believe that it does."""

    def read(value: str, _others: Others) -> None:
        if truth(value) is not wanted:
            raise ValueError(f"{value!r} is not allowed: {rule}")

    return read


def when(*, true: Any = None, false: Any = None) -> Reading:
    """Ours is one value when theirs is true and another when it is false; ``None``: it says nothing then."""

    def read(value: str, _others: Others) -> Any:
        result = true if truth(value) else false
        if result is None:
            raise Unread(f"{value} changes nothing here")
        return result

    return read


def beside(name: str, reading: Reading) -> Reading:
    """Read it only where ``name`` is set too: alone it may be anybody's, such as Kubernetes' links to services."""

    def read(value: str, others: Others) -> Any:
        if not given(others, name):
            raise Unread(f"it says something only beside {name}")
        return reading(value, others)

    return read


def unless(name: str, reading: Reading) -> Reading:
    """Read it only where ``name``, which says the same and more, is not set."""

    def read(value: str, others: Others) -> Any:
        if given(others, name):
            raise Unread(f"{name} says it")
        return reading(value, others)

    return read
