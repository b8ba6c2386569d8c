"""What a sandboxed program writes, made fit for a person's terminal: colours pass, the rest is written out. Pure.

A terminal obeys what it is shown: it sets titles and clipboards, answers questions as if somebody had typed, and moves
what is on the screen. Programs here are nobody's friends.
"""

from __future__ import annotations

import re
from typing import Final

_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_BEGUN: Final = re.compile(r"\x1b(\[[0-9;:]{0,64})?\Z")
_PLAIN: Final = frozenset("\n\t\r\b")
"""A carriage return is how progress is shown; what it overwrites is in its own line only."""


class TerminalText:
    """Takes a stream of text, in pieces that may be cut anywhere."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, untrusted_text: str) -> str:
        """Give what may be shown of the text so far."""
        text = self._rest + untrusted_text
        begun = _BEGUN.search(text)
        self._rest = text[begun.start() :] if begun else ""
        return _harmless(text[: len(text) - len(self._rest)])

    def end(self) -> str:
        """Give what was held back."""
        rest, self._rest = self._rest, ""
        return _harmless(rest)


def _harmless(text: str) -> str:
    """Write out what is neither printable nor layout nor a colour."""
    parts = []
    at = 0
    for colour in _COLOUR.finditer(text):
        parts += [_written_out(text[at : colour.start()]), colour[0]]
        at = colour.end()
    return "".join([*parts, _written_out(text[at:])])


def _written_out(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in _PLAIN else ascii(each)[1:-1] for each in text)
