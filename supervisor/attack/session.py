"""One run of ``gaoler attack``: find the daemon, make credentials, try everything, leave the host as it was."""

from __future__ import annotations

import os
import platform
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from supervisor import __version__
from supervisor.attack import host, network
from supervisor.attack.case import Case
from supervisor.attack.internet import open_internet
from supervisor.attack.suite import Result, Run, Watcher, at, attack_all, untried
from supervisor.attack.target import Caller, Target
from supervisor.attack.twin import Twin, open_twin
from supervisor.attack.wire import connect
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.execution.tier import is_below
from supervisor.execution.values import Tier
from supervisor.identity.keys import KEY_FILE, add_key, read_keys, revoke_key
from supervisor.jailer.cgroup_subtree import mount_points
from supervisor.policy import Policy, load_profiles
from supervisor.preparation.prepare import find_image, find_languages, policy_directory, read_policy
from supervisor.preparation.tiers_in_force import tiers_in_force
from supervisor.runtimes.catalogue import load_languages
from supervisor.settings.loading import Loaded
from supervisor.settings.tree import Settings

DEFAULT_TENANT: Final = "default"
REST_SECONDS: Final = 30.0
_OUR_KEY: Final = re.compile(r"attack-(?P<pid>\d+)-[0-9a-f]{8}-(me|colleague|stranger)")


async def _nothing(_target: Target) -> None:
    """The session itself looks."""


LEFT: Final = Case(
    id="R16",
    name="the host after all of this",
    promise="After every attack the host is as it was: mounts, namespaces, devices, cgroups, IPC, files, processes.",
    meaning="Something that a sandbox made outlives it: the host fills up, or the next tenant finds it.",
    mend="Restart the daemon, which reconciles; report what is named here with the JSON of this run.",
    attack=_nothing,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What was attacked: for the head of the report."""

    version: str
    kernel: str
    machine: str
    cgroups: str
    address: str
    policy: str
    tier: str
    languages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator asks for. ``twin_only``: try nothing at the daemon in use, everything at a twin of it."""

    cases: Sequence[Case]
    tier: Tier | None
    """In which everything is run; ``None``: what the policy has."""
    twin_only: bool


def address_of(settings: Settings) -> str:
    """Give where the settings say that the daemon listens, as seen from this host."""
    if settings.bind.startswith("unix:"):
        return settings.bind
    name, _, port = settings.bind.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(name, name) }:{port}"


async def run_session(loaded: Loaded, wish: Wish, watch: Watcher, tell: Callable[[str], None]) -> tuple[Run, Subject]:
    """Try the cases; ``watch`` is told each result, ``tell`` what happens in between.

    Whoever ends it by a signal, as a pipeline does whose time is up, leaves nothing behind either.

    Raises:
        ConfigurationError: nobody listens where the settings say, we are not root, or a signal has ended it.
    """
    done: tuple[Run, Subject] | None = None
    fault: GaolerError = ConfigurationError("ended by a signal; what was made for it has been removed")
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_at_signal, nursery.cancel_scope)
        try:
            done = await _try_all(loaded, wish, watch, tell)
        except GaolerError as error:
            fault = error
        nursery.cancel_scope.cancel()
    if done is None:
        raise fault
    return done


async def _end_at_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


async def _try_all(loaded: Loaded, wish: Wish, watch: Watcher, tell: Callable[[str], None]) -> tuple[Run, Subject]:
    if os.geteuid() != 0:
        raise ConfigurationError("attacking needs root: it starts twins of the daemon and looks at the whole host")
    settings = loaded.settings
    tier, policy = _tier(settings, wish.tier)
    run = Run()
    first, count = settings.subordinate_range
    directories = [settings.state_path]

    def look() -> host.HostView:
        return host.look(range(first, first + count), directories)

    before = look()
    if wish.twin_only:
        twin_cases = [*at("daemon", wish.cases), *at("twin", wish.cases)]
    else:
        async with _installed(settings, policy, tier) as target:
            await attack_all(at("daemon", wish.cases), target, run, watch)
        twin_cases = at("twin", wish.cases)
    if twin_cases:
        tell("starting a twin of the daemon, for what nobody wants to have tried on one in use")
        async with _twin(loaded, policy, tier) as target:
            directories.append(target.state_directory)
            await attack_all(twin_cases, target, run, watch)
    directories += await _online(loaded, policy, tier, at("internet", wish.cases), run, watch, tell)
    result = await _left(before, look)
    run.results.append(result)
    watch(result)
    return run, _subject(settings, policy, tier)


def _tier(settings: Settings, asked: Tier | None) -> tuple[Tier, Policy]:
    """Decide in which tier everything is run: the policy's, or a higher one that is asked for.

    Raises:
        ConfigurationError: it asks for a lower one, or for what is not to be had here.
    """
    policies, policy = read_policy(settings)
    tier = policy.tier if asked is None else asked
    if is_below(tier, policy.tier):
        raise ConfigurationError(
            f"policy {policy.name} is of tier {policy.tier}: there is nothing of tier {tier} to be attacked",
            field="tier",
        )
    rules = tiers_in_force(settings, policies, find_image(settings).path, load_languages())
    if is_below(rules.best, tier):
        raise ConfigurationError(f"tier {tier} is not to be had here: {rules.unavailable}", field="tier")
    return tier, policy


@asynccontextmanager
async def _installed(settings: Settings, policy: Policy, tier: Tier) -> AsyncIterator[Target]:
    """The operator's own daemon, with keys that hold for the block."""
    address = address_of(settings)
    try:
        await (await connect(address)).aclose()
    except OSError as error:
        raise ConfigurationError(
            f"no daemon answers at {address} ({error}): start it, say where it is (--config, GAOLER_BIND), "
            "or attack a twin of it only (--twin)",
            field="bind",
        ) from None
    if not settings.http.authentication:
        raise ConfigurationError(
            "the daemon asks for no credential (http.authentication = false), so callers cannot be told apart: "
            "attack a twin of it (--twin)",
            field="http.authentication",
        )
    with _keys(settings, settings.state_path, tier) as (me, colleague, stranger):
        yield _target(settings, address, settings.state_path, policy, tier, (me, colleague, stranger))


@contextmanager
def _keys(settings: Settings, state: Path, tier: Tier) -> Iterator[tuple[Caller, Caller, Caller]]:
    """Make three keys of two tenants for the block, and revoke those of an attack that was killed.

    The tier is the keys': then all that they run is of it, at every door.
    """
    path, owner = state / "data" / KEY_FILE, settings.jailer.daemon_uid
    for key in read_keys(path):
        found = _OUR_KEY.fullmatch(key.name)
        if found is not None and not host.process_name(int(found["pid"])):
            revoke_key(path, key.name, owner)
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    wanted = (("me", "a"), ("colleague", "a"), ("stranger", "b"))
    made: list[Caller] = []
    try:
        for name, tenant in wanted:
            full, of = f"attack-{mark}-{name}", f"attack-{mark}-{tenant}"
            made.append(Caller(full, add_key(path, full, of, owner, tier=tier), of))
        yield made[0], made[1], made[2]
    finally:
        for each in made:
            revoke_key(path, each.name, owner)


def _target(
    settings: Settings, address: str, state: Path, policy: Policy, tier: Tier, callers: tuple[Caller, Caller, Caller]
) -> Target:
    installed = find_languages(find_image(settings), load_profiles(policy_directory(settings)))
    first, count = settings.subordinate_range
    ids = range(first, first + count)
    return Target(address, state, settings, policy, frozenset(installed), ids, *callers, tier=tier)


@asynccontextmanager
async def _twin(loaded: Loaded, policy: Policy, tier: Tier) -> AsyncIterator[Target]:
    """A twin that serves, with its keys."""
    async with open_twin(loaded) as twin:
        await twin.start()
        yield _twin_target(loaded.settings, twin, policy, tier)
        if twin.running:
            await twin.stop()


def _twin_target(settings: Settings, twin: Twin, policy: Policy, tier: Tier) -> Target:
    path, owner = twin.state / "data" / KEY_FILE, settings.jailer.daemon_uid

    def caller(name: str, tenant: str) -> Caller:
        return Caller(name, add_key(path, name, tenant, owner, tier=tier), tenant)

    # The key of its start has the policy's tier.
    me = Caller("me", twin.key, DEFAULT_TENANT) if tier == policy.tier else caller("me", DEFAULT_TENANT)
    callers = (me, caller("colleague", DEFAULT_TENANT), caller("stranger", "elsewhere"))
    target = _target(settings, twin.address, twin.state, policy, tier, callers)
    target.twin = twin
    return target


async def _online(
    loaded: Loaded,
    policy: Policy,
    tier: Tier,
    cases: Sequence[Case],
    run: Run,
    watch: Watcher,
    tell: Callable[[str], None],
) -> list[Path]:
    """Group E, where the policy has a network: a twin in a little internet. Gives the state directories used."""
    if not cases:
        return []
    if policy.network == "none":
        untried(cases, run, watch, f"policy {policy.name} has no network: there is nothing to be got through")
        return []
    tell("making a little internet, with another twin in it")
    with open_internet() as internet:
        async with AsyncExitStack() as stack:
            twin = await stack.enter_async_context(open_twin(loaded, prefix=network.prefix(internet)))
            policies = twin.state / "policies"
            rules = {network.RULE_SET: network.RULES, "secrets": network.RULES_THAT_ATTACH}
            network.policies_with(policies, policy_directory(loaded.settings), rules, policy=policy.name)
            await twin.start(network.environment(policies))
            target = _twin_target(loaded.settings, twin, policy, tier)
            target.internet = internet
            await attack_all(cases, target, run, watch)
            if twin.running:
                await twin.stop()
            return [twin.state]


async def _left(before: host.HostView, look: Callable[[], host.HostView]) -> Result:
    """Look whether the host is as it was; what a sandbox leaves for a moment is given some time."""
    changes: list[str] = []
    with trio.move_on_after(REST_SECONDS):
        while changes := before.changes(look()):
            await trio.sleep(0.2)
        return Result(LEFT, "held", "", 0.0)
    return Result(LEFT, "broken", "; ".join(changes[:10]), REST_SECONDS)


def _subject(settings: Settings, policy: Policy, tier: Tier) -> Subject:
    installed = find_languages(find_image(settings), load_profiles(policy_directory(settings)))
    names = {each.language.name for each in installed.values()}
    return Subject(
        version=__version__,
        kernel=f"{platform.system()} {platform.release()}",
        machine=f"{platform.machine()}, {os.cpu_count()} processors",
        cgroups="v1" if "memory" in mount_points() else "v2",
        address=address_of(settings),
        policy=policy.name,
        tier=tier,
        languages=tuple(sorted(names)),
    )
