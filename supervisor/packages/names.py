"""What pip and npm call a package, with or without a version: the form of what an operator asks for."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

# To pip "name.whl" and "name.zip" are files.
PYTHON_PATTERN: Final = (
    r"(?!.*\.(whl|zip|tgz|tbz|txz|tar(\.[a-z0-9]+)?)\Z)"
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}(\[[A-Za-z0-9,._-]{1,100}\])?([<>=!~]=?[A-Za-z0-9.*,<>=!~+-]{1,100})?"
)
# To npm "name@.." is a directory, and "name.tgz" a file.
NODE_PATTERN: Final = (
    r"(?!.*\.(tgz|tar|tar\.gz)(@|\Z))"
    r"(@[a-z0-9._-]{1,100}/)?[a-z0-9][a-z0-9._-]{0,100}(@[A-Za-z0-9^<>=*][A-Za-z0-9.^~<>=*x-]{0,59}|@~[0-9][A-Za-z0-9.x-]{0,58})?"
)

PythonRequirement = Annotated[str, Meta(pattern=f"^{PYTHON_PATTERN}\\Z")]
NodeRequirement = Annotated[str, Meta(pattern=f"^{NODE_PATTERN}\\Z")]


def bare_node_name(requirement: str) -> str:
    """Give the name without the version."""
    name, _, _version = requirement[1:].partition("@")
    return requirement[0] + name
