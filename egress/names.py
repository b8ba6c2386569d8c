"""One spelling for each host: names and addresses are made canonical once, here, and compared as they come out. Pure.

Whatever could be read in two ways is refused rather than guessed: a proxy and a server that read one name differently
are how allowlists are walked around.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import idna

from egress.addresses import Address, plain

MAX_TEXT: Final = 1024
MAX_NAME: Final = 253
"""RFC 1035, 2.3.4, without the final dot."""
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_FORBIDDEN: Final = frozenset("\x7f @#%/\\?:;,<>^|[]{}\"'`&=+*!$()~")


class BadName(ValueError):
    """A text is no host; the message says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """A canonical host: a name in lower case ASCII without a final dot, or an address."""

    text: str
    address: Address | None = None

    @property
    def authority(self) -> str:
        """As it stands in a URL before the port."""
        return f"[{self.text}]" if isinstance(self.address, IPv6Address) else self.text


def canonical_host(text: str) -> Host:
    """Make a host canonical. An IPv6 address may stand in brackets.

    Raises:
        BadName: it is no host, or one that could be read in two ways.
    """
    if not text:
        raise BadName("the host is empty")
    if len(text) > MAX_TEXT:
        raise BadName("the host is too long")
    if text.startswith("[") or text.count(":") > 1:
        return _ipv6(text)
    if any(character in _FORBIDDEN or character < "!" for character in text):
        raise BadName("the host holds a character that no host has")
    name = text.lower() if text.isascii() else _to_ascii(text)
    name = name.removesuffix(".")
    if _ends_in_number(name):
        address = _ipv4(name)
        return Host(str(address), address)
    _check_name(name)
    return Host(name)


def _ipv6(text: str) -> Host:
    inner = text
    if text.startswith("["):
        if not text.endswith("]"):
            raise BadName("a bracket is not closed")
        inner = text[1:-1]
    if "%" in inner:
        raise BadName("an address with a zone is never outside")
    try:
        address = plain(IPv6Address(inner))
    except AddressValueError:
        raise BadName("it is no IPv6 address") from None
    return Host(str(address), address)


def _to_ascii(text: str) -> str:
    """Apply UTS 46, non-transitional: full-width letters and dots, case, combining characters."""
    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise BadName("the name is no international domain name") from None


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME:
        raise BadName("the name is longer than 253 characters")
    for label in name.split("."):
        if not _LABEL.fullmatch(label):
            raise BadName("a label of the name is empty, too long, or not of letters, digits and hyphens")
        if label.startswith("xn--") and not _is_canonical_alabel(label):
            raise BadName("a label of the name only looks like an international one")


def _is_canonical_alabel(label: str) -> bool:
    try:
        return idna.alabel(idna.ulabel(label)).decode("ascii") == label
    except (idna.IDNAError, UnicodeError):
        return False


def _ends_in_number(name: str) -> bool:
    """As the URL standard has it: then it is an IPv4 address or nothing."""
    return _NUMBER.fullmatch(name.rpartition(".")[2]) is not None


def _ipv4(name: str) -> IPv4Address:
    """Read all spellings that inet_aton(3) knows: fewer parts, octal, hexadecimal."""
    parts = name.split(".")
    if len(parts) > 4:
        raise BadName("an IPv4 address has at most four parts")
    numbers = [_number(part) for part in parts]
    *front, last = numbers
    if any(number > 255 for number in front) or last >= 256 ** (5 - len(parts)):
        raise BadName("a part of the IPv4 address is too large")
    value = last
    for position, number in enumerate(front):
        value += number << (24 - 8 * position)
    return IPv4Address(value)


def _number(part: str) -> int:
    if not _NUMBER.fullmatch(part):
        raise BadName("a name does not end in a number")
    if part == "0x":
        raise BadName("a part of the IPv4 address has no digits")
    if part.startswith("0x"):
        return int(part, 16)
    if part.startswith("0") and len(part) > 1:
        try:
            return int(part, 8)
        except ValueError:
            raise BadName("a part of the IPv4 address is not octal") from None
    return int(part)
