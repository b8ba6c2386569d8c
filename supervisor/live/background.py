"""Background programs of sessions, as the doors start and find them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.errors import Unsupported
from supervisor.execution.tier import TierRules
from supervisor.execution.values import Principal, SessionId, Tier
from supervisor.files.service import FileService
from supervisor.live.processes import BackgroundProcess, CommandLine
from supervisor.live.sessions import LiveSessions
from supervisor.policy import Policy
from supervisor.runtimes.catalogue import InstalledLanguage
from supervisor.workspace.views import ProcessInfo

_UNBUFFERED: Final = {"PYTHONUNBUFFERED": "1"}
"""Python holds its output back when nobody's terminal is at the other end; here somebody reads along."""


class Background:
    """Starts shell commands in lasting sessions."""

    def __init__(
        self,
        live: LiveSessions,
        files: FileService,
        policy: Policy,
        languages: Mapping[str, InstalledLanguage],
        tiers: TierRules,
    ) -> None:
        self._live = live
        self._files = files
        self._policy = policy
        self._shell = languages.get("bash")
        self._tiers = tiers

    async def start(
        self, principal: Principal, session_id: SessionId, command: str, tier: Tier | None = None
    ) -> ProcessInfo:
        """Start a command with Bash; the session is made if it is not there. ``tier`` may raise what applies.

        Raises:
            Unsupported: the policy keeps nothing running, there is no Bash, or the tier is not to be had.
            GaolerError: as :meth:`supervisor.execution.executor.Executor.execute`.
        """
        if self._policy.state == "never":
            raise Unsupported(
                "this server keeps nothing running between executions", code="stateful_workspace_unsupported"
            )
        if self._shell is None:
            raise Unsupported("there is no Bash here", code="unsupported_language")
        arguments = [self._shell.tools["bash"], "-c", command]
        line = CommandLine(arguments, {**self._shell.environment, **_UNBUFFERED}, self._shell.language.seccomp)
        chosen = self._tiers.choose(principal, self._shell.language.name, tier)
        return await self._live.start_process(principal, session_id, command, line, tier=chosen, asked=tier)

    async def list(self, principal: Principal, session_id: SessionId) -> list[ProcessInfo]:
        """List those of a session.

        Raises:
            NotFound: the session is another's.
        """
        return self._live.processes(principal, session_id)

    async def get(self, principal: Principal, session_id: SessionId, process_id: str) -> BackgroundProcess:
        """Give one.

        Raises:
            NotFound: there is none.
        """
        return self._live.process(principal, session_id, process_id)

    async def state(self, session_id: SessionId) -> str:
        """Say ``live`` or ``resting``."""
        return self._live.state(session_id)

    async def close(self, principal: Principal, session_id: SessionId) -> None:
        """End a session's sandbox, with all that runs in it; its variables are forgotten, also saved ones.

        Raises:
            NotFound: the session is another's.
        """
        await self._files.open_session(principal, session_id)
        # First, so that what is being saved now is not kept after it was forgotten.
        self._live.discard(session_id)
        await self._files.forget_state(principal, session_id)
