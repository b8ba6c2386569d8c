"""A handler that may lose records rather than stop the daemon, and says how many it has lost."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from contextlib import suppress

from supervisor.logs.taken_apart import printable


class LossyHandler(logging.Handler):
    """Writes each record, or counts it: a full disk or a stopped journal costs records, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self._lost = 0

    @abstractmethod
    def write(self, record: logging.LogRecord) -> None:
        """Write a record, and wait for nobody.

        Raises:
            OSError: it could not be written.
        """

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; after a loss first how many were lost. Called with the handler's lock."""
        try:
            if self._lost:
                words = f"records of the log were lost: {self._lost}"
                self.write(logging.LogRecord("gaoler.log", logging.WARNING, "", 0, words, None, None))
                self._lost = 0
            self.write(record)
        except OSError as error:
            self._lost += 1
            if self._lost == 1:
                with suppress(OSError):
                    os.write(2, f"gaoler: records of the log are lost: {printable(str(error))}\n".encode())
