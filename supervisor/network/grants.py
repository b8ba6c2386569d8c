"""Let sandboxes out as the rules say: the daemon's side of the egress proxy.

One connection to the proxy carries the rules, the grants of all sandboxes and the record of each decision. When the
proxy is started anew everything is told to it again, and the sandboxes that live get their network back.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import trio

from egress import control
from egress.allowlist import NotCovered, Rule, canonical_pattern, narrow
from egress.control import CloseGrant, Configure, ControlError, OpenGrant, Record, Sync
from egress.names import BadName
from supervisor.errors import InvalidRequest, SandboxFailed
from supervisor.execution.values import Principal, SessionId
from supervisor.jailer.client import RemoteJail
from supervisor.network.audit import Audit
from supervisor.network.rule_files import MAX_EXTRA_PORTS, extra_ports
from supervisor.policy import Policy

log: Final = logging.getLogger("gaoler.network")

RECONNECT_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 5.0
MAX_TOLD: Final = 5
"""Refusals that one execution is told."""
MAX_PATTERNS: Final = 64
Wanted = tuple[str, ...] | None
"""Hosts that a request narrows the rules down to; ``None``: it does not."""


class Grant:
    """What one sandbox may do. Use :meth:`Network.open_grant`; without a network it is one that knows of nothing."""

    def __init__(self, network: Network | None, jail: RemoteJail | None = None) -> None:
        self.id = secrets.token_hex(16)
        self._network = network
        self.jail = jail
        self.message: OpenGrant | None = None
        self.ports: list[int] = []
        self._told: dict[str, None] = {}
        self._untold: dict[str, None] = {}
        self._asked: trio.Event | None = None
        self.told = True
        """What is in ``message`` is what the proxy does."""

    def hear(self, record: Record) -> None:
        """Remember what its user has to be told: each reason once."""
        said = record.explanation
        if said is not None and said not in self._told and len(self._untold) < 10 * MAX_TOLD:
            self._untold[said] = None

    async def ask(self) -> None:
        """Ask for what was decided so far, to be had by :meth:`explanations` without a wait."""
        if self._network is not None:
            self._asked = await self._network.ask(self.id)

    async def explanations(self) -> list[str]:
        """Give what was refused since the last time, in words; each reason once."""
        if self._network is None:
            return []
        asked, self._asked = self._asked, None
        if asked is None:
            asked = await self._network.ask(self.id)
        with trio.move_on_after(ANSWER_SECONDS):
            await asked.wait()
        found, self._untold = list(self._untold), {}
        self._told.update(dict.fromkeys(found))
        while len(self._told) > 1000:
            del self._told[next(iter(self._told))]
        more = len(found) - MAX_TOLD
        return [*found[:MAX_TOLD], *([f"and {more} more refusals"] if more > 0 else [])]

    async def use(self, principal: Principal, wanted: Wanted) -> None:
        """From now on it is this caller's, cut down to these hosts, or to all that the operator allows.

        Raises:
            InvalidRequest: the operator does not allow one of them.
            SandboxFailed: the proxy does not answer.
        """
        if self._network is None or self.message is None:
            return
        labels = labels_of(principal, SessionId(self.message.labels["session"]))
        narrowed = _canonical(wanted)
        if not self.told or (self.message.narrowed, self.message.labels) != (narrowed, labels):
            await self._network.change(self, msgspec.structs.replace(self.message, narrowed=narrowed, labels=labels))


class Network:
    """All grants. Use :func:`open_network`."""

    def __init__(self, policy: Policy, socket_path: Path, audit: Audit, configure: Callable[[], Configure]) -> None:
        self._policy = policy
        self._path = socket_path
        self._configure = configure
        self.audit = audit
        self._grants: dict[str, Grant] = {}
        self._stream: trio.SocketStream | None = None
        self._sending = trio.Lock()
        self._syncs: dict[int, trio.Event] = {}
        self._opened: dict[str, list[trio.Event]] = {}
        self._number = 0
        self.restarts = -1

    @property
    def enabled(self) -> bool:
        """The policy has a network."""
        return self._policy.network == "egress"

    def reaches(self, egress: Sequence[str] | None) -> bool:
        """Say whether a program of a request that wants this may reach anything at all."""
        return self.enabled and egress != ()

    @property
    def connected(self) -> bool:
        """There is a proxy."""
        return self._stream is not None

    @property
    def open_grants(self) -> int:
        """Sandboxes that have a network now."""
        return len(self._grants)

    def rules(self, wanted: Wanted = None) -> tuple[Rule, ...]:
        """Give the rules of the policy that hold now, cut down to what a request wants.

        Raises:
            InvalidRequest: the operator does not allow what it wants.
        """
        sets = self._configure().rule_sets
        rules = tuple(rule for name in self._policy.egress for rule in sets.get(name, ()))
        if wanted is None:
            return rules
        if len(wanted) > MAX_PATTERNS:
            raise InvalidRequest(f"at most {MAX_PATTERNS} hosts", field="egress")
        try:
            return narrow(rules, wanted)
        except (BadName, NotCovered) as error:
            raise InvalidRequest(str(error), field="egress") from None

    def check(self, wanted: Wanted) -> None:
        """Check, before anything is made, what a request wants.

        Raises:
            InvalidRequest: there is no network, or the operator does not allow it.
        """
        if wanted is not None and self.enabled:
            self.rules(wanted)
        elif wanted:
            raise InvalidRequest("sandboxes have no network here, so there is nothing to narrow", field="egress")

    @asynccontextmanager
    async def open_grant(
        self, jail: RemoteJail, principal: Principal, session_id: SessionId, wanted: Wanted = None
    ) -> AsyncIterator[Grant]:
        """Let a sandbox out for the block, as the policy says and the request wants; at its end everything is cut.

        Nobody waits for the proxy here: until it knows, what the sandbox connects to waits in its own kernel.

        Raises:
            InvalidRequest: the request wants what the operator does not allow.
            SandboxFailed: the jail was lost.
        """
        self.check(wanted)
        if not self.enabled:
            yield Grant(None)
            return
        grant = Grant(self, jail)
        grant.ports = extra_ports(self.rules(wanted))[:MAX_EXTRA_PORTS]
        grant.message = OpenGrant(
            grant=grant.id,
            rule_sets=tuple(self._policy.egress),
            where=f"policy {self._policy.name!r}",
            labels=labels_of(principal, session_id),
            narrowed=_canonical(wanted),
        )
        self._grants[grant.id] = grant
        try:
            await self._tell(grant.message)
            await jail.connect(grant.id, grant.ports)
            yield grant
        finally:
            del self._grants[grant.id]
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._tell(CloseGrant(grant=grant.id))

    async def change(self, grant: Grant, message: OpenGrant) -> None:
        """Change a grant; when this returns, that holds.

        Raises:
            InvalidRequest: the operator does not allow what is wanted.
            SandboxFailed: there is no proxy that answers.
        """
        ports = extra_ports(self.rules(message.narrowed))[:MAX_EXTRA_PORTS]
        grant.message, grant.told = message, False
        if not set(ports) <= set(grant.ports) and grant.jail is not None:
            grant.ports = ports
            await grant.jail.connect(grant.id, ports)
        if self._stream is None:
            grant.told = True
            return  # there is no way out; a proxy that comes is told
        done = trio.Event()
        waiting = self._opened.setdefault(grant.id, [])
        waiting.append(done)
        try:
            await self._tell(msgspec.structs.replace(message, answer=True))
            with trio.move_on_after(ANSWER_SECONDS):
                await done.wait()
                grant.told = grant.message is message
                return
        finally:
            self._opened.pop(grant.id, None)
        raise SandboxFailed("the egress proxy does not answer")

    async def ask(self, grant: str | None = None) -> trio.Event:
        """Ask for every decision so far; the event is set when they are known here, or nobody is there to say.

        With a grant: also those that follow from what its sandbox has sent already.
        """
        done = trio.Event()
        if self._stream is None:
            done.set()
            return done
        self._number += 1
        self._syncs[self._number] = done
        await self._tell(Sync(number=self._number, grant=grant))
        return done

    async def settle(self) -> bool:
        """Wait until the proxy has done all that it was told; ``False``: it does not answer, or there is none."""
        done = await self.ask()
        with trio.move_on_after(ANSWER_SECONDS):
            await done.wait()
            return self._stream is not None
        return False

    async def reconfigure(self) -> None:
        """Tell the proxy the rules that hold now, and let live sandboxes reach what they newly name."""
        await self._tell(self._configure())
        for grant in list(self._grants.values()):
            ports = extra_ports(self._narrowed(grant))[:MAX_EXTRA_PORTS]
            if not set(ports) <= set(grant.ports) and grant.jail is not None:
                grant.ports = ports
                await self._connect(grant)

    def _narrowed(self, grant: Grant) -> Sequence[Rule]:
        try:
            return self.rules(grant.message.narrowed if grant.message else None)
        except InvalidRequest:
            return ()

    async def _connect(self, grant: Grant) -> None:
        try:
            if grant.jail is not None:
                await grant.jail.connect(grant.id, grant.ports)
        except SandboxFailed:
            return  # whoever works in it is told

    async def _tell(self, message: control.Message) -> None:
        """Send, if there is a proxy; one that is started later is told everything then."""
        stream = self._stream
        if stream is None:
            return
        data = control.frame(message)
        async with self._sending:
            # Half a frame would be the end of the conversation, so it is finished even for who has been cancelled.
            with trio.CancelScope(shield=True), trio.move_on_after(ANSWER_SECONDS) as patience:
                try:
                    await stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    return  # the connection's own task sees it too
            if patience.cancelled_caught:
                log.error("the egress proxy does not listen")
                await trio.aclose_forcefully(stream)

    async def run(self) -> None:
        """Keep a connection to the proxy, for ever."""
        while True:
            try:
                stream = await trio.open_unix_socket(str(self._path))
            except OSError:
                await trio.sleep(RECONNECT_SECONDS)
                continue
            try:
                async with stream:
                    await self._converse(stream)
            except* (ControlError, msgspec.DecodeError, UnicodeDecodeError) as group:
                log.error("the egress proxy breaks the protocol: %s", group.exceptions[0])
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._stream = None
                self._wake_all()
            log.warning("the egress proxy is gone: sandboxes have no network until it is back")
            await trio.sleep(RECONNECT_SECONDS)

    async def _converse(self, stream: trio.SocketStream) -> None:
        self.restarts += 1
        async with trio.open_nursery() as nursery:

            async def tell_everything() -> None:
                self._stream = stream
                await self._tell(self._configure())
                for grant in list(self._grants.values()):
                    if grant.message is not None and grant.id in self._grants:
                        await self._tell(grant.message)
                        await self._connect(grant)

            nursery.start_soon(tell_everything)
            async for payload in control.frames(stream):
                self._hear(control.proxy_decoder.decode(payload))
            nursery.cancel_scope.cancel()

    def _hear(self, message: control.FromProxy) -> None:
        match message:
            case Record():
                self.audit.write(message)
                grant = self._grants.get(message.grant)
                if grant is not None:
                    grant.hear(message)
            case control.Opened():
                for each in self._opened.pop(message.grant, ()):
                    each.set()
            case control.Synced():
                event = self._syncs.pop(message.number, None)
                if event is not None:
                    event.set()

    def _wake_all(self) -> None:
        for event in self._syncs.values():
            event.set()
        self._syncs.clear()
        for waiting in self._opened.values():
            for event in waiting:
                event.set()


def labels_of(principal: Principal, session_id: SessionId) -> dict[str, str]:
    """Say in every record whose it is."""
    return {
        "tenant": principal.tenant,
        "credential": principal.credential,
        "user": principal.user or "",
        "session": session_id,
    }


def _canonical(wanted: Wanted) -> Wanted:
    return None if wanted is None else tuple(dict.fromkeys(canonical_pattern(each) for each in wanted))


@asynccontextmanager
async def open_network(
    policy: Policy, socket_path: Path, audit: Audit, configure: Callable[[], Configure]
) -> AsyncIterator[Network]:
    """Have a network for the block, if the policy has one; ``configure`` gives what holds now."""
    network = Network(policy, socket_path, audit, configure)
    if not network.enabled:
        yield network
        return
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        yield network
        nursery.cancel_scope.cancel()
