"""What a setting says of itself beside its type: a line that describes it, its bounds, and whether it is a secret."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Meta

SECRET: Final = {"secret": True}
"""As ``extra``: the value is never printed."""
FILE_RULE: Final = r"^$|^/"
"""Pattern of a path, or of none."""
RATE_RULE: Final = r"^(off|[1-9][0-9]{0,6}/[1-9][0-9]{0,5})$"
"""Pattern of how often, ``N/SECONDS``, or ``off``."""


def meta(description: str, **rules: Any) -> Meta:
    """Annotate a setting. ``rules``: as :class:`msgspec.Meta` knows them."""
    return Meta(description=description, **rules)
