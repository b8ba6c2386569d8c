"""Refusals and faults, flat, split by who has to act.

What the user's program did is never an exception (see :data:`supervisor.execution.values.Outcome`). Each door has one
table from these classes to its own replies; nothing else builds an error body.
"""

from __future__ import annotations

from collections.abc import Mapping


class GaolerError(Exception):
    """Base of all that a door may be told. ``message`` is for the caller and names no path and no secret."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(GaolerError):
    """The caller's input breaks a rule; ``field`` names which part of it, ``hint`` says what would do."""

    def __init__(self, message: str, *, field: str | None = None, hint: str = "") -> None:
        super().__init__(message, field=field)
        self.hint = hint


class NotFound(GaolerError):
    """No such thing for this caller: absent, expired, or another's. The three are told apart by nobody."""


class Unauthenticated(GaolerError):
    """No credential, or one that does not hold."""


class Forbidden(GaolerError):
    """The credential holds, but not for what is asked; ``field`` names what contradicts it."""


class TooLarge(GaolerError):
    """The input is over a size limit."""


class Busy(GaolerError):
    """Admission refused: try again in ``retry_after_seconds``."""

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Overloaded(GaolerError):
    """The host is short of ``resource`` and new work is refused: try again in ``retry_after_seconds``."""

    def __init__(self, message: str, *, resource: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.resource = resource
        self.retry_after_seconds = retry_after_seconds


class Conflict(GaolerError):
    """It has been done already, or is being done."""


class Unsupported(GaolerError):
    """What is asked for is not to be had here, however often one asks; ``code`` is for programs."""

    def __init__(
        self, message: str, *, code: str, field: str | None = None, details: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, field=field)
        self.code = code
        self.details = details or {}


class StorageFull(GaolerError):
    """The state directory's disk has no room; nothing of the request was kept."""


class QuotaReached(GaolerError):
    """The caller, or its tenant, keeps as much as it may in all sessions together; nothing more was kept."""


class SandboxFailed(GaolerError):
    """A sandbox could not be made or was lost by our own fault. The program's outcome is unknown."""


class ExecutionLost(SandboxFailed):
    """The worker that had it is gone. It may have run, whole or in part; it is not run again by us."""


class StoreUnavailable(GaolerError):
    """Redis or S3 does not answer: try again in ``retry_after_seconds``. Nothing was acknowledged."""

    def __init__(self, message: str, *, retry_after_seconds: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreSpoilt(StoreUnavailable):
    """What Redis keeps is not what we wrote: another type, a value that cannot be read. Asked again, it still is."""


class ConfigurationError(GaolerError):
    """A setting, policy or runtime file is wrong: the daemon refuses to start. ``field`` is the key."""
