"""The daemon under attack: who calls it, how it is reached, and what can be seen of it from outside."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from supervisor.attack import host, wire
from supervisor.attack.case import Broken, Untried
from supervisor.attack.wire import Answer
from supervisor.execution.values import Tier
from supervisor.policy import Policy
from supervisor.settings.tree import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supervisor.attack.internet import Internet
    from supervisor.attack.twin import Twin

REQUEST_SECONDS: Final = 120.0
PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A credential: ``key`` of ``tenant``."""

    name: str
    key: str
    tenant: str


@dataclass(slots=True)
class Target:
    """A running daemon. ``me`` and ``colleague`` are two keys of one tenant, ``stranger`` one of another."""

    address: str
    """``host:port`` or ``unix:/path``."""
    state_directory: Path
    settings: Settings
    policy: Policy
    languages: frozenset[str]
    """Names and aliases of those that are installed."""
    ids: range
    """The ids of the host that sandboxes run as."""
    me: Caller
    colleague: Caller
    stranger: Caller
    tier: Tier = "nsjail"
    """Of all that the callers run."""
    twin: Twin | None = None
    """Set where the case may stop, kill and start the daemon."""
    internet: Internet | None = None
    """Set where the daemon lives in a little internet."""
    user: str = "attack"
    """Who ``me`` speaks for where a case does not say; each case has one of its own, for calls are counted by user."""
    sessions: dict[str, tuple[Caller, str]] = field(default_factory=dict)
    """Made by the attack, to be deleted: whose they are."""

    # -- requests --

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        caller: Caller | None = None,
        anonymous: bool = False,
        user: str | None = None,
    ) -> Answer:
        """Send a request on a connection of its own, as ``me`` unless another ``caller`` is named.

        ``user``: whom the caller speaks for, :attr:`user` by default; the empty string: for the whole tenant.

        Raises:
            Broken: no answer in time, or one that is no HTTP.
        """
        sent = {"Connection": "close", **(headers or {})}
        if not anonymous:
            sent["X-API-Key"] = (caller or self.me).key
        if not anonymous and (spoken := self.user if user is None else user):
            sent["X-User-Id"] = spoken
        with trio.move_on_after(REQUEST_SECONDS):
            try:
                async with await wire.connect(self.address) as stream:
                    machine = await wire.send_request(stream, method, path, sent, body)
                    return await wire.read_answer(stream, machine)
            except (OSError, trio.BrokenResourceError) as error:
                raise Broken(f"the daemon does not answer {method} {path}: {error}") from None
        raise Broken(f"no answer to {method} {path} within {REQUEST_SECONDS:.0f} s")

    async def post(self, path: str, body: Any, **more: Any) -> Answer:
        """Send JSON; ``more`` as of :meth:`request`."""
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return await self.request("POST", path, json.dumps(body).encode(), headers, **more)

    async def try_execute(
        self, code: str, lang: str = "py", *, caller: Caller | None = None, user: str | None = None, **fields: Any
    ) -> Answer:
        """Run a program; whatever the answer is. A refusal that came too late for its status has it all the same."""
        answer = await self.post("/v1/exec", {"lang": lang, "code": code, **fields}, caller=caller, user=user)
        if answer.status == 200 and "error" in answer.json:
            answer = replace(answer, status=429 if answer.json["error"] == "rate_limited" else 503)
        if answer.status == 200:
            self.sessions[answer.json["session_id"]] = (caller or self.me, self.user if user is None else user)
        return answer

    async def execute(self, code: str, lang: str = "py", **more: Any) -> dict[str, Any]:
        """Run a program that has to be taken; ``more`` as of :meth:`try_execute`. Waits while the daemon is busy.

        Raises:
            Broken: it is refused.
        """
        deadline = trio.current_time() + PATIENCE_SECONDS
        answer = await self.try_execute(code, lang, **more)
        while answer.status == 429 and trio.current_time() < deadline:
            await trio.sleep(float(answer.headers.get("retry-after", "1")))
            answer = await self.try_execute(code, lang, **more)
        if answer.status != 200:
            raise Broken(f"an ordinary execution is answered with {answer.status}: {answer.body[:200]!r}")
        found: dict[str, Any] = answer.json
        return found

    async def upload(
        self, *files: tuple[str, bytes], caller: Caller | None = None, fields: Mapping[str, str] | None = None
    ) -> Answer:
        """Upload files, named as they are (``surrogateescape`` for other bytes)."""
        boundary = "gaoler-attack-boundary"
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (fields or {}).items()
        ]
        for name, content in files:
            quoted = name.replace("\\", "\\\\").replace('"', '\\"')
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n\r\n'
            parts.append(head.encode("utf-8", "surrogateescape") + content + b"\r\n")
        parts.append(f"--{boundary}--\r\n".encode())
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        answer = await self.request("POST", "/v1/upload", parts, headers, caller=caller)
        if answer.status == 200:
            self.sessions[answer.json["session_id"]] = (caller or self.me, self.user)
        return answer

    def need_language(self, name: str) -> None:
        """Say that the case needs a language.

        Raises:
            Untried: it is not installed.
        """
        if name not in self.languages:
            raise Untried(f"{name} is not installed here")

    def need_host_view(self) -> None:
        """Say that the case has to see the processes of a sandbox from the host.

        Raises:
            Untried: they are those of a guest.
        """
        if self.tier == "microvm":
            raise Untried("the programs run in a virtual machine, and from the host only that is seen")

    async def forget(self) -> None:
        """Delete the sessions that the attack has made."""
        for session, (caller, user) in list(self.sessions.items()):
            await self.request("DELETE", f"/v1/sessions/{session}", caller=caller, user=user)
            del self.sessions[session]

    # -- what is seen from outside --

    @property
    def daemon_pid(self) -> int:
        """The daemon's process.

        Raises:
            Untried: it cannot be found from here.
        """
        pid = host.holder_of(self.state_directory / "lock")
        if pid is None:
            raise Untried("the daemon's process cannot be seen from here")
        return pid

    def family(self) -> list[int]:
        """Give the daemon and everything that it has started."""
        daemon = self.daemon_pid
        return [daemon, *host.descendants(daemon)]

    def named(self, name: str) -> int:
        """Give the one lasting process of that name: ``gaoler-jailer``, ``gaoler-keeper``, ``gaoler-egress``.

        Raises:
            Broken: there is none.
        """
        for pid in self.family():
            if host.process_name(pid) == name and host.process_name(host.parent(pid)) != name:
                return pid
        raise Broken(f"there is no process {name}")

    def log(self) -> str:
        """Give what the daemon has logged.

        Raises:
            Untried: it logs to a place that we do not see.
        """
        if self.twin is None:
            raise Untried("the log of the daemon is not seen from here")
        return self.twin.log()


async def eventually(what: str, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so.

    Raises:
        Broken: it does not come true.
    """
    with trio.move_on_after(seconds):
        while not condition():
            await trio.sleep(0.02)
        return
    raise Broken(f"not within {seconds:.0f} s: {what}")


async def together(*works: Callable[[], Awaitable[Any]]) -> Sequence[Any]:
    """Run all at the same time; give their results in order."""
    results: list[Any] = [None] * len(works)

    async def run(number: int, work: Callable[[], Awaitable[Any]]) -> None:
        results[number] = await work()

    async with trio.open_nursery() as nursery:
        for number, work in enumerate(works):
            nursery.start_soon(run, number, work)
    return results


@asynccontextmanager
async def meanwhile(*works: Callable[[], Awaitable[Any]]) -> AsyncIterator[None]:
    """Have these go on during the block; they are cancelled at its end."""
    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(work)
        yield
        nursery.cancel_scope.cancel()
