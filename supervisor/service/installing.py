"""What ``gaoler install`` puts in place, as a plan: which file, with which text, and what stands there now."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.errors import ConfigurationError

UNITS: Final = Path(__file__).resolve().parent / "units"
MARK: Final = "# Written by 'gaoler install'; a change here is lost at the next one.\n"
PLACES: Final = {
    "gaoler.service": "etc/systemd/system/gaoler.service",
    "gaoler-gateway.service": "etc/systemd/system/gaoler-gateway.service",
    "gaoler-worker.service": "etc/systemd/system/gaoler-worker.service",
    "gaoler.socket": "etc/systemd/system/gaoler.socket",
    "gaoler.slice": "etc/systemd/system/gaoler.slice",
    "gaoler.sysusers": "etc/sysusers.d/gaoler.conf",
    "gaoler.tmpfiles": "etc/tmpfiles.d/gaoler.conf",
}
_PROGRAM: Final = "/opt/gaoler/bin/gaoler"
_HOMES: Final = ("/home", "/root", "/run/user")
_PRIVATE: Final = ("/tmp", "/var/tmp")


@dataclass(frozen=True, slots=True)
class Change:
    """One file. ``before`` is ``None`` where there is none, ``after`` where there is to be none."""

    path: Path
    before: str | None
    after: str | None

    @property
    def needed(self) -> bool:
        """Something would be written or removed."""
        return self.before != self.after

    def diff(self) -> str:
        """Show the change as ``diff -u`` does."""
        old, new = (self.before or "").splitlines(keepends=True), (self.after or "").splitlines(keepends=True)
        names = (
            "/dev/null" if self.before is None else str(self.path),
            "/dev/null" if self.after is None else str(self.path),
        )
        return "".join(difflib.unified_diff(old, new, *names))

    def make(self) -> None:
        """Write the file whole, or remove it.

        Raises:
            ConfigurationError: it cannot be.
        """
        try:
            if self.after is None:
                self.path.unlink(missing_ok=True)
                return
            self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.new")
            temporary.unlink(missing_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(self.after)
                os.fchmod(fd, 0o644)
            temporary.rename(self.path)
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}", field="prefix") from None


def own_program(prefix: Path) -> Path:
    """Give the ``gaoler`` of the environment that runs this.

    Raises:
        ConfigurationError: there is none, or it lies where the units cannot see it.
    """
    program = Path(sys.prefix) / "bin" / "gaoler"
    if not program.exists():
        raise ConfigurationError(
            f"{program} does not exist: install Gaoler into a virtual environment, and run its own"
        )
    for path in (program, UNITS) if prefix == Path("/") else ():
        if any(path.is_relative_to(each) for each in _PRIVATE):
            raise ConfigurationError(f"{path}: a service of its own /tmp does not see it; /opt/gaoler is a good place")
    if not str(program).isprintable() or set(str(program)) & set(" \t\\\"'%$;"):
        raise ConfigurationError(f"{program!s}: a unit cannot name a path with blanks, quotes, %, $ or ;")
    return program


def texts(program: Path, code: Sequence[Path]) -> dict[str, str]:
    """Give the text of each file, by its name among the units, for an environment and where our code lies.

    Raises:
        ConfigurationError: the package is not whole.
    """
    homes = any(path.is_relative_to(each) for path in (program, *code) for each in _HOMES)
    found: dict[str, str] = {}
    for name in PLACES:
        try:
            text = (UNITS / name).read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{UNITS / name}: {error.strerror}: install Gaoler again") from None
        text = text.replace(_PROGRAM, str(program))
        if homes:
            # The environment itself lies in one: it has to be seen, not written.
            text = text.replace("\nProtectHome=yes\n", "\nProtectHome=read-only\n")
        found[name] = MARK + text
    return found


def install_plan(prefix: Path, program: Path, code: Sequence[Path]) -> list[Change]:
    """Say what installing changes below ``prefix``.

    Raises:
        ConfigurationError: something of ours stands there that is not ours.
    """
    return [
        Change(prefix / PLACES[name], _present(prefix / PLACES[name]), text)
        for name, text in texts(program, code).items()
    ]


def uninstall_plan(prefix: Path) -> list[Change]:
    """Say what uninstalling removes: what :func:`install_plan` has written, and nothing else.

    Raises:
        ConfigurationError: as there.
    """
    return [Change(prefix / place, _present(prefix / place), None) for place in PLACES.values()]


def _present(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}", field="prefix") from None
    if not text.startswith(MARK):
        raise ConfigurationError(
            f"{path} is not of 'gaoler install': move it away, and what is yours in it into {path}.d/*.conf",
            field="prefix",
        )
    return text
