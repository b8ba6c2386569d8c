"""Reading streams: the answers of XREAD and XREADGROUP, in whichever form they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[bytes, bytes]


def entries(answer: Any) -> Iterator[tuple[str, str, Fields | None]]:
    """Give stream, id and fields of each entry; no fields if the entry was deleted meanwhile."""
    pairs = answer.items() if isinstance(answer, dict) else (answer or ())
    for stream, found in pairs:
        for each in found:
            # redis-py has, by the newer protocol, what was read of a stream in a list once more.
            several = isinstance(each, list) and not isinstance(each[0], bytes)
            for entry, fields in each if several else (each,):
                yield _text(stream), _text(entry), _mapping(fields)


def _mapping(fields: Any) -> Fields | None:
    if isinstance(fields, list):
        # As the server says it: name, value, name, value.
        fields = dict(zip(fields[::2], fields[1::2], strict=True))
    return fields or None


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
