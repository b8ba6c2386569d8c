"""Read what package managers are configured with: files of all kinds, bounded, and programs that are asked, bounded."""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, run
from tempfile import TemporaryFile
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

from egress.names import BadName, canonical_host

Ask = Callable[[Sequence[str]], str | None]
"""Runs a program and returns what it printed; ``None`` if it is not there, fails, says too much or takes too long."""
MAX_BYTES: Final = 256 * 1024  # of a file, and of an answer
ASK_SECONDS: Final = 10.0

_T = TypeVar("_T")
Values = list[tuple[str, str]]  # each with its origin
_SCHEMES: Final[Mapping[str, tuple[Literal["https", "http"], int]]] = {"https": ("https", 443), "http": ("http", 80)}
_CONTROLS: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class PresetHost:
    """A host that a preset means. ``origin`` says in words where it stands."""

    host: str
    port: int
    scheme: Literal["https", "http"]
    origin: str


def ask_program(env: Mapping[str, str], command: Sequence[str]) -> str | None:
    """Run a program in ``/`` without input, for at most ``ASK_SECONDS``; then it is killed. See ``Ask``."""
    with TemporaryFile() as out:  # no pipe, which what the program leaves running could hold open
        try:
            run(command, stdin=DEVNULL, stdout=out, stderr=DEVNULL, cwd="/", env=env, timeout=ASK_SECONDS, check=True)
        except (OSError, ValueError, SubprocessError):
            return None
        out.seek(0)
        answer = out.read(MAX_BYTES + 1)
    return answer.decode("utf-8", "replace") if len(answer) <= MAX_BYTES else None


def _text(path: Path) -> str:
    # Without O_NONBLOCK a FIFO would hold us up before we know what it is.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        content = file.read(MAX_BYTES + 1) if regular else b""
    if len(content) > MAX_BYTES or not (regular or path == Path(os.devnull)):
        raise ValueError
    return content.decode()


@dataclass(slots=True)
class Reading:
    """Where one preset's configuration is, and what was found so far. The first origin of a host stays."""

    environment: Mapping[str, str]
    home: Path
    root: Path
    ask: Ask
    hosts: dict[tuple[str, str, int], PresetHost] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Environment with which the manager in a sandbox uses the same places, without credentials."""

    def add(self, urls: object, origin: str) -> list[str]:
        """Take one or several; before a URL may stand a name (uv) or how an index is kept (cargo).

        Gives those that were taken, without credentials.
        """
        taken: list[str] = []
        for url in " ".join(all_of(str, urls)).split():
            try:
                parts = urlsplit(re.sub(r"^([\w.-]+=|sparse\+|registry\+)", "", url))
                if parts.scheme not in _SCHEMES or not parts.hostname or parts.port == 0 or "\\" in url:
                    raise BadName("it is no plain URL of http or https")
                if parts.port and "@" in url and "@" not in parts.netloc:
                    raise BadName("it may be a password with a slash in it")  # and not a host with a port
                (scheme, usual), name = _SCHEMES[parts.scheme], canonical_host(parts.hostname).text
                host = PresetHost(name, parts.port or usual, scheme, _CONTROLS.sub("?", origin))
                self.hosts.setdefault((scheme, name, host.port), host)
                where = f"[{name}]" if ":" in name else name
                taken.append(f"{scheme}://{where}{'' if host.port == usual else f':{host.port}'}{parts.path}")
            except ValueError as error:  # the words of others than ourselves may quote a password
                self.note(f"{origin}: skipped, {error if isinstance(error, BadName) else 'it is no URL'}")
        return taken

    def note(self, text: str) -> None:
        """Say something, once."""
        if (note := _CONTROLS.sub("?", text)) not in self.notes:
            self.notes.append(note)

    def path(self, absolute: str) -> Path:
        """Give a path of the system."""
        return self.root / absolute.lstrip("/")

    def shown(self, path: Path) -> str:
        """Give a path as people know it."""
        return f"/{path.relative_to(self.root)}" if path.is_relative_to(self.root) else str(path)

    def variables(self, *names: str) -> Values:
        """Give the variables of these names that are set."""
        return [(value, f"environment, {name}") for name in names if (value := self.environment.get(name))]

    def xdg_files(self, name: str) -> list[Path]:
        """Where the system's files and, at last, the user's are, by the XDG base directory specification."""
        system = (self.environment.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")
        user = self.environment.get("XDG_CONFIG_HOME")
        folder = self.path(user) if user else self.home / ".config"
        return [each / name for each in (*map(self.path, filter(None, system)), folder)]

    def read(self, path: Path, parse: Callable[[Any], _T], take: Callable[[Path], str | list[str]] = _text) -> _T:
        """Parse a file; one that is not there, or with a note one that cannot be read, is as if it were empty."""
        try:
            return parse(take(path))
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError, RecursionError, configparser.Error) as error:
            # Of an OSError the reason; the words of others may quote a password.
            reason = getattr(error, "strerror", None) or "it is broken, too large, or no text file"
            self.note(f"{self.shown(path)} is not read: {reason}")
        return parse("")


def all_of(kind: type[_T], value: object) -> list[_T]:
    """What a file says need not be of the type that its key has."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, kind)]
