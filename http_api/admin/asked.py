"""What is asked for in a query, and answers: every list is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from quart import Response, request

from supervisor.errors import InvalidRequest

MOST: Final = 1000
USUAL: Final = 100


def json_answer(value: object, status: int = 200) -> Response:
    """Answer with JSON that nobody keeps."""
    headers = {"Cache-Control": "no-store"}
    return Response(msgspec.json.encode(value), status=status, content_type="application/json", headers=headers)


def asked_limit() -> int:
    """Read ``limit``.

    Raises:
        InvalidRequest: it is no number of 1 to :data:`MOST`.
    """
    text = request.args.get("limit", str(USUAL))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST):
        raise InvalidRequest(f"a whole number of 1 to {MOST}", field="limit")
    return int(text)


def asked_word(name: str, allowed: Sequence[str], usual: str) -> str:
    """Read one of some words.

    Raises:
        InvalidRequest: it is none of them.
    """
    word = request.args.get(name, usual)
    if word not in allowed:
        raise InvalidRequest(f"one of {', '.join(allowed)}", field=name)
    return word


def asked_text(name: str, longest: int = 256) -> str | None:
    """Read a text; ``None``: it was not given.

    Raises:
        InvalidRequest: it is too long.
    """
    text = request.args.get(name)
    if text is not None and len(text) > longest:
        raise InvalidRequest(f"at most {longest} characters", field=name)
    return text
