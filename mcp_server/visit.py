"""Who is calling, as the transport found out; each call of a tool carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import trio

from mcp_server.events import SessionEvents
from supervisor.errors import InvalidRequest, NotFound
from supervisor.execution.values import Principal, SessionId, is_id
from supervisor.identity.derived import DerivedIds

SCOPE_KEY: Final = "gaoler.visit"


@dataclass(slots=True)
class Exchange:
    """One HTTP request. ``gone``: it is answered, or its client has hung up. ``events``: where a stream goes on."""

    gone: trio.Event = field(default_factory=trio.Event)
    events: SessionEvents | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """A caller, what it says about its conversation, and where it reaches us."""

    principal: Principal
    conversation: str | None
    """What the client calls its conversation, else its MCP session; ``None``: nothing holds its calls together."""
    base_url: str | None
    exchange: Exchange | None = None
    request_id: str | None = None
    """The client's name for its request, and its place in its own trace: as sent, for logs and traces only."""
    traceparent: str | None = None
    tracestate: str | None = None

    def default_session(self, ids: DerivedIds) -> SessionId | None:
        """Name the session of this conversation: the same for each call, another's for nobody."""
        if self.conversation is None:
            return None
        who = self.principal
        whose = ("user", who.user) if who.user is not None else ("credential", who.credential)
        return ids.derive("mcp", who.tenant, *whose, self.conversation)


def checked_session(text: str) -> SessionId:
    """Give the id if it has the form of one.

    Raises:
        InvalidRequest: it has not.
    """
    if not is_id(text):
        raise InvalidRequest(
            "a session id has 21 characters, as results give it; leave it out for the session of this conversation",
            field="session",
        )
    return SessionId(text)


def no_session() -> NotFound:
    """Say that nothing was named, and nothing is there to go on with."""
    return NotFound(
        "this conversation has no session yet: name one, or write a file or run code first", field="session"
    )
