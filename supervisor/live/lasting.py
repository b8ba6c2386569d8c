"""Which lasting session a request is for. Pure; gateways and workers decide the same."""

from __future__ import annotations

from supervisor.errors import Unsupported
from supervisor.execution.values import ExecutionRequest, SessionId, new_id
from supervisor.identity.derived import DerivedIds
from supervisor.policy import Policy


def lasting_session(request: ExecutionRequest, policy: Policy, ids: DerivedIds) -> SessionId | None:
    """Decide whether the request runs in a lasting interpreter, and of which session; ``None``: it does not.

    A hint names the same session to everybody in its tenant who knows it, and to nobody else: the id is an HMAC.

    Raises:
        Unsupported: it asks for what the policy does not have.
    """
    asked = request.stateful if request.stateful is not None else request.runtime_hint is not None
    if not asked and (request.stateful is False or policy.state != "session" or request.session_id is None):
        return None
    if policy.state == "never":
        raise Unsupported(
            "this server keeps no interpreter between executions",
            code="stateful_workspace_unsupported",
            field="stateful" if request.runtime_hint is None else "runtime_session_hint",
        )
    if request.session_id is not None:
        return request.session_id
    if request.runtime_hint is None:
        return SessionId(new_id())
    return ids.derive("hint", request.principal.tenant, request.runtime_hint)
