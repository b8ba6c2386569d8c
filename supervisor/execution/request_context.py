"""Which request a task works for: carried beside the arguments, for logs and traces only. Nothing decides by it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from supervisor.execution.values import SessionId, new_id
from supervisor.tracing.trace_context import read_tracestate

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request at a door. ``traceparent``: the client's place in its own trace, by W3C; empty: it has none.

    ``tracestate``: what others noted of that trace. It has been checked, and is to be passed on as it is.
    """

    request_id: str
    traceparent: str = ""
    tracestate: str = ""


_current: Final[ContextVar[RequestContext | None]] = ContextVar("gaoler_request", default=None)


_session: Final[ContextVar[SessionId | None]] = ContextVar("gaoler_session", default=None)


def begin_request(
    request_id: str | None, traceparent: str | None = None, tracestate: str | None = None
) -> RequestContext:
    """Have this task, and what it starts from now on, work for a request.

    An id of the caller's is taken if it is 1 to 128 characters of ``A-Za-z0-9._-``; otherwise one is made. What
    ``traceparent`` says is checked by whoever reads it, but it is printable ASCII, for it is in records and messages. A
    ``tracestate`` that breaks the standard is dropped here.
    """
    given = request_id if request_id is not None and _REQUEST_ID.fullmatch(request_id) else new_id()
    place = (traceparent or "")[:256]
    plain = place if place.isascii() and place.isprintable() else ""
    context = RequestContext(given, plain, read_tracestate(tracestate or ""))
    _current.set(context)
    _session.set(None)
    return context


def trace_headers(values_of: Callable[[str], Sequence[str]]) -> tuple[str | None, str]:
    """Give ``traceparent`` and ``tracestate`` of a request, from a look at all values of a header.

    Of several headers of a list RFC 9110 makes one; a ``traceparent`` is no list, and several are none.
    """
    places = values_of("traceparent")
    return places[0] if len(places) == 1 else None, ",".join(values_of("tracestate"))


@contextmanager
def under(traceparent: str, tracestate: str = "") -> Iterator[None]:
    """Have what this task asks of others, in the block, lie under another place of the trace than its client's.

    ``tracestate``: that of this place, checked.
    """
    context = _current.get()
    token = _current.set(RequestContext("" if context is None else context.request_id, traceparent, tracestate))
    try:
        yield
    finally:
        _current.reset(token)


def current_request() -> RequestContext | None:
    """Give the request that this task works for."""
    return _current.get()


def work_for_session(session_id: SessionId) -> None:
    """Have this task, and what it starts from now on, work for a session."""
    _session.set(session_id)


def current_session() -> SessionId | None:
    """Give the session that this task works for."""
    return _session.get()
