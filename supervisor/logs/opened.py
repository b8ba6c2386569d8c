"""The log of a process as its settings want it. What needs rights happens before they are given up."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from supervisor.logs.forms import ApartLimit, Hiding, HidingFormatter, json_form, line_form
from supervisor.logs.journal import Journal, connect_journal
from supervisor.logs.limit import limit_logging
from supervisor.logs.relay import Relay
from supervisor.logs.rotating import RotatingFile, open_log_file
from supervisor.settings.loading import leaves
from supervisor.settings.tree import Settings

OURS: Final = "gaoler"
ACCESS: Final = "gaoler.access"
SECURITY: Final = "gaoler.security"
_SILENT: Final = logging.CRITICAL + 1


def configure_logging(level: str) -> None:
    """Log to standard error, one line a record, for a person: what commands do that serve nobody."""
    form = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=level, format=form, stream=sys.stderr, force=True)
    limit_logging()
    _set_levels(level)


@dataclass(frozen=True, slots=True)
class Opened:
    """The log of this process."""

    hide: Hiding
    """Secrets that are known only later are added here."""
    relay: Relay | None
    """Takes the lines of our other processes, where they do not come to the right place by themselves."""

    def taking_in(self) -> AbstractContextManager[None]:
        """Have processes that are started in the block write into this log."""
        return nullcontext() if self.relay is None else self.relay.as_standard_error()

    def serving(self, serve: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """Give what is to be run: ``serve``, with what is needed for the log beside it."""
        return serve if self.relay is None else partial(self.relay.beside, serve)


def open_log(settings: Settings) -> Opened:
    """Log as the settings want it.

    Raises:
        ConfigurationError: the file cannot be the daemon's, or there is no journal.
    """
    wanted = settings.log
    hide = Hiding(_secrets(settings))
    handler: logging.Handler
    if wanted.format == "journal":
        handler = Journal(connect_journal(), hide)
    else:
        if wanted.file:
            owner = settings.jailer.daemon_uid if os.geteuid() == 0 else os.geteuid()
            path = Path(wanted.file)
            handler = RotatingFile(path, open_log_file(path, owner), wanted.file_bytes, wanted.files)
        else:
            # Of its own: standard error itself is another while our processes are started.
            handler = logging.StreamHandler(os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace"))
        handler.setFormatter(HidingFormatter(json_form() if wanted.format == "json" else line_form(), hide))
    handler.addFilter(ApartLimit())
    logging.basicConfig(handlers=[handler], force=True)
    _set_levels(wanted.level)
    for name, on in ((ACCESS, wanted.access), (SECURITY, wanted.security)):
        logging.getLogger(name).setLevel(logging.NOTSET if on else _SILENT)
    return Opened(hide, Relay() if wanted.format != "text" or wanted.file else None)


def _set_levels(level: str) -> None:
    """Say how much: of ours what is wanted, of libraries never less than a warning.

    At lower levels they write bodies and credentials, and say of each request what our own line says.
    """
    logging.getLogger(OURS).setLevel(level)
    logging.getLogger().setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def _secrets(settings: Settings) -> Iterable[str]:
    """Give the values of all secret settings; of several in one also each."""
    for leaf in leaves():
        if leaf.secret:
            section, _, name = leaf.key.rpartition(".")
            yield getattr(getattr(settings, section) if section else settings, name)
    yield from settings.more_keys
    yield urlsplit(settings.redis.url).password or ""
