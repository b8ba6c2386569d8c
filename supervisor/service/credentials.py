"""Secrets that a service manager hands over as files, one for each setting: ``$CREDENTIALS_DIRECTORY``.

They are read once, as root, at start: the directory belongs to the unit, and the daemon's own view does not have it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError

VARIABLE: Final = "CREDENTIALS_DIRECTORY"
MAX_BYTES: Final = 64 << 10


def read_credentials(environment: Mapping[str, str], known: Collection[str]) -> dict[str, str]:
    """Give the content of each file whose name is a setting's key, without the line's end.

    Raises:
        ConfigurationError: a file cannot be read, is too long or is no text.
    """
    return {path.name: _text(path) for path in _files(environment) if path.name in known}


def refuse_strangers(environment: Mapping[str, str], known: Collection[str], values: Iterable[object]) -> None:
    """Hold every other file to be one that a setting names, by its path or its directory's: a typo is no secret kept.

    Raises:
        ConfigurationError: nobody would ever read it.
    """
    named = {value for value in values if isinstance(value, str) and value}
    for path in _files(environment):
        if path.name not in known and not {str(path), str(path.parent)} & named:
            raise ConfigurationError(
                f"credential {path.name!r} is neither the key of a setting, as api_key or redis.password, nor a file "
                "that a setting names",
                field=path.name,
            )


def _files(environment: Mapping[str, str]) -> list[Path]:
    directory = environment.get(VARIABLE, "")
    try:
        return sorted(Path(directory).iterdir()) if directory else []
    except OSError as error:
        raise ConfigurationError(f"{VARIABLE}: {error}") from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"credential {path.name}: it cannot be read as text", field=path.name) from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"credential {path.name}: it has more than {MAX_BYTES} bytes", field=path.name)
    return text.removesuffix("\n")
