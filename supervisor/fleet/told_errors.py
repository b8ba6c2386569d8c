"""Our errors on their way from worker to gateway: put into a message and taken out of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from supervisor import errors
from supervisor.fleet.messages import Failed

_EXTRAS: Final[Mapping[type[errors.GaolerError], tuple[str, ...]]] = {
    errors.InvalidRequest: ("field", "hint"),
    errors.NotFound: ("field",),
    errors.Unauthenticated: ("field",),
    errors.Forbidden: ("field",),
    errors.TooLarge: ("field",),
    errors.Busy: ("retry_after_seconds",),
    errors.Overloaded: ("resource", "retry_after_seconds"),
    errors.Conflict: ("field",),
    errors.Unsupported: ("code", "field", "details"),
    errors.StorageFull: ("field",),
    errors.QuotaReached: ("field",),
    errors.SandboxFailed: (),
    errors.ExecutionLost: (),
    errors.StoreUnavailable: ("retry_after_seconds",),
    errors.StoreSpoilt: ("retry_after_seconds",),
}
"""What a door tells, and what each has beside its message."""
_BY_NAME: Final = {kind.__name__: kind for kind in _EXTRAS}


def of_error(error: errors.GaolerError) -> Failed:
    """Put one of our errors into a message; what is none of those that a door tells is our own fault."""
    extras = _EXTRAS.get(type(error))
    if extras is None:
        return Failed("SandboxFailed", "the worker could not do it")
    return Failed(type(error).__name__, error.message, **{name: getattr(error, name) for name in extras})


def error_of(failed: Failed) -> errors.GaolerError:
    """Take an error out of its message."""
    kind = _BY_NAME.get(failed.kind)
    if kind is None:
        return errors.SandboxFailed("the worker said what no worker says")
    extras: dict[str, Any] = {name: getattr(failed, name) for name in _EXTRAS[kind]}
    return kind(failed.message, **extras)
