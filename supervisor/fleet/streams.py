"""Reading streams: the answers of XREAD and XREADGROUP, in whichever form the client gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Fields = Mapping[bytes, bytes]


def entries(answer: Any) -> Iterator[tuple[str, str, Fields | None]]:
    """Give stream, id and fields of each entry; no fields if the entry was deleted meanwhile."""
    pairs = answer.items() if isinstance(answer, dict) else (answer or ())
    for stream, found in pairs:
        for each in found:
            # By the newer protocol what was read of a stream is in a list once more.
            yield from (
                ((_text(stream), _text(entry), fields or None) for entry, fields in each)
                if isinstance(each, list)
                else ((_text(stream), _text(each[0]), each[1] or None),)
            )


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
