"""What happens as root before the daemon serves: read everything, make everything, then give root up."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from hypercorn.config import Config

from supervisor.core import Prepared
from supervisor.errors import ConfigurationError, GaolerError
from supervisor.execution.tier import TierRules
from supervisor.identity.oauth import load_oauth_keys
from supervisor.identity.tokens import PublicKey, load_public_keys
from supervisor.image import Image, LanguageRecord, current_image, hold
from supervisor.image.boot_check import check_microvm
from supervisor.image.fit import check_python, find_init, refuse_hosts_files
from supervisor.image.inside import inside
from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.cgroup_subtree import leave_group_of_unit
from supervisor.jailer.interpreters import RuntimeProfile
from supervisor.jailer.seccomp import SeccompError, compile_all
from supervisor.jailer.setup import MicrovmPlan, SetupPlan, become_ordinary_user, start_jailer
from supervisor.microvm.preparation import MachineWish, microvm_plan
from supervisor.network.host_names import HOSTS, RESOLV_CONF
from supervisor.network.preparation import prepare_network
from supervisor.packages.manifest import read_added
from supervisor.policy import PACKAGED_POLICIES, Policy, Profile, load_policies, load_profiles, load_seccomp_profiles
from supervisor.preparation.limits_in_force import with_limits
from supervisor.preparation.nsjail_program import nsjail_path
from supervisor.preparation.own_files import ADMIN_KEY_FILE, read_or_make_admin_key, read_or_make_key
from supervisor.preparation.remote import read_remote_files, start_way_out
from supervisor.preparation.tiers_in_force import tiers_in_force
from supervisor.runtimes.catalogue import (
    InstalledLanguage,
    installed_languages,
    load_groups,
    load_languages,
    profiles_wanted,
    sized,
)
from supervisor.runtimes.language_view import LanguageTable, Stock, language_table
from supervisor.serving.tls import open_certificate, shown_directories
from supervisor.settings.tree import Settings

log: Final = logging.getLogger("gaoler.prepare")

PACKAGE: Final = Path(__file__).resolve().parent.parent
KEY_FILE: Final = "api_key"
DOORS: Final = (PACKAGE.parent / "http_api", PACKAGE.parent / "mcp_server")
OWN_PROCESSES: Final = ("daemon", "jailer", "proxy", "connector")
SHARED_PACKAGES: Final = "packages"
"""Of the state directory: see :mod:`supervisor.packages.shared`."""
WARM_CELL_BYTES: Final = 6 << 20
"""What a waiting cell costs, by the kernel's proportional set size of all its processes; ``make bench`` measures it."""
BARE_CELL_BYTES: Final = 2 << 20


def policy_directory(settings: Settings) -> Path:
    """Give the folder of policies in force."""
    return Path(settings.jailer.policy_dir) if settings.jailer.policy_dir else PACKAGED_POLICIES


def read_policy(settings: Settings) -> tuple[Mapping[str, Policy], Policy]:
    """Read all policies and choose the one of the settings.

    Raises:
        ConfigurationError: it does not exist, or one asks for a tier that is not switched on.
    """
    policies = load_policies(policy_directory(settings))
    name = settings.execution.policy
    if name not in policies:
        raise ConfigurationError(
            f"execution.policy = {name!r}: there are only {', '.join(policies)}", field="execution.policy"
        )
    for policy in policies.values():
        if policy.tier == "microvm" and not settings.microvm.enabled:
            raise ConfigurationError(
                f"policy {policy.name} asks for tier microvm, which is not switched on: set microvm.enabled"
            )
    chosen = with_limits(policies[name], settings.limits)
    return {**policies, name: chosen}, chosen


def find_image(settings: Settings) -> Image:
    """Give the current runtime image.

    Raises:
        ConfigurationError: there is none yet, or its packages are for another Python than sandboxes would have.
    """
    image = current_image(settings.image_path)
    # Held until this process ends, so that a later build leaves it alone.
    if image is None or hold(image) is None:
        raise ConfigurationError(
            f"there is no runtime image in {settings.image_path}: run 'gaoler image build'", field="image_dir"
        )
    check_python(image)
    return image


def find_languages(
    image: Image, profiles: Mapping[str, Profile], environment: Mapping[str, str] | None = None
) -> Mapping[str, InstalledLanguage]:
    """Find the languages whose tools a sandbox would see; ``environment`` is added to what their programs have.

    Versions and packages are those that the image's build has found, as long as the tools are still the same.
    """
    trees = inside(image)
    named = {profile.language: name for name, profile in profiles.items()}
    found = installed_languages(load_languages(), trees.find, named, environment)
    records = image.manifest.languages
    changed = {
        each.language.name
        for each in found.values()
        if each.language.name in records
        and records[each.language.name].tools != {path: trees.identity(path) for path in each.tools.values()}
    }
    if changed:
        names = ", ".join(sorted(changed))
        log.warning("changed since the image was built: %s; run 'gaoler image build' again", names)
    return {
        alias: replace(each, version="" if each.language.name in changed else record.version, packages=record.packages)
        for alias, each in found.items()
        for record in [records.get(each.language.name, LanguageRecord())]
    }


def read_languages(settings: Settings) -> LanguageTable:
    """Give what a daemon with these settings would tell of its languages. Needs no root and starts nothing.

    Raises:
        ConfigurationError: there is no image, or a policy or language is wrong.
    """
    policies, policy = read_policy(settings)
    image = find_image(settings)
    languages = find_languages(image, load_profiles(policy_directory(settings)))
    tiers = tiers_in_force(settings, policies, image.path, load_languages())
    return _catalogue(settings, image, languages, policy, tiers)


def _catalogue(
    settings: Settings, image: Image, languages: Mapping[str, InstalledLanguage], policy: Policy, tiers: TierRules
) -> LanguageTable:
    tested = [name for name, record in image.manifest.languages.items() if record.tried]
    stock = Stock(image.manifest.groups, tested, read_added(shared_packages(settings)))
    return language_table(load_languages(), load_groups(), languages, stock, policy, tiers)


def runtime_profiles(
    profiles: Mapping[str, Profile], languages: Mapping[str, InstalledLanguage]
) -> list[RuntimeProfile]:
    """Put the profiles together with what their languages need.

    Raises:
        ConfigurationError: a profile is for a language that is not installed, or not in the catalogue.
    """
    found: list[RuntimeProfile] = []
    for name, profile in profiles.items():
        language = languages.get(profile.language)
        if language is None or profile.language not in language.tools:
            raise ConfigurationError(f"profiles/{name}.toml: language {profile.language!r} is not installed")
        found.append(
            RuntimeProfile(
                name=name,
                python=language.tools[profile.language],
                environment=language.environment,
                preimport=profile.preimport,
                exercise=profile.exercise,
                forks=profile.forks,
                seconds=profile.minutes * 60,
                seccomp=language.language.seccomp,
            )
        )
    return found


def pool_plans(settings: Settings, profiles: Mapping[str, Profile]) -> list[PoolPlan]:
    """Share the memory budget out: three quarters for cells with an interpreter, the rest for bare ones."""
    cells = settings.cells
    share = cells.memory_bytes * 3 // 4 // max(1, len(profiles))
    plans = [
        PoolPlan(policy=settings.execution.policy, profile=name, floor=cells.floor, ceiling=share // WARM_CELL_BYTES)
        for name in profiles
    ]
    bare = cells.memory_bytes // 4 // BARE_CELL_BYTES
    return [*plans, PoolPlan(policy=settings.execution.policy, profile=None, floor=cells.bare_floor, ceiling=bare)]


def code_directories() -> list[Path]:
    """Give the directories of our own code and its interpreter, which jailer and daemon have to read."""
    return [Path(sys.prefix), Path(sys.base_prefix), PACKAGE, PACKAGE.parent / "egress", PACKAGED_POLICIES]


def setup_plan(
    settings: Settings,
    image: Image,
    policies: Mapping[str, Policy],
    profiles: Mapping[str, Profile],
    languages: Mapping[str, InstalledLanguage],
    authority: tuple[str, str] | None,
) -> SetupPlan:
    """Put together what ``setup`` needs.

    Raises:
        ConfigurationError: a program is missing, or a policy shows what the image promises not to be there.
    """
    refuse_hosts_files(image, policies)
    first, count = settings.subordinate_range
    plan = SetupPlan(
        state_directory=settings.state_path,
        usr=image.usr,
        etc=image.etc,
        image=image.local,
        policies=policies,
        seccomp_profiles=load_seccomp_profiles(profiles_wanted(load_languages()), policy_directory(settings)),
        profiles=runtime_profiles(profiles, languages),
        pools=pool_plans(settings, profiles),
        policy_directory=policy_directory(settings),
        nsjail=nsjail_path(),
        init=find_init(settings, image),
        python=(sys.executable, "-I"),
        code=[*code_directories(), nsjail_path().parent],
        daemon_uid=settings.jailer.daemon_uid,
        first_subordinate_uid=first,
        subordinate_uids=count,
        builders=settings.jailer.builders,
        max_jails=settings.jailer.max_jails,
        log_level=settings.log.level,
        filters=own_filters(settings),
        egress=policies[settings.execution.policy].network == "egress",
        shared_packages=shared_packages(settings),
        trusted_authority=authority[0] if authority else "",
    )
    return replace(plan, microvm=_microvm(settings, image, plan)) if settings.microvm.enabled else plan


def _microvm(settings: Settings, image: Image, plan: SetupPlan) -> MicrovmPlan:
    """Say how virtual machines are made; what they are made of is compared with what was built first."""
    microvm = settings.microvm
    wish = MachineWish(
        vcpus=microvm.vcpus,
        memory_mib=microvm.memory_mib,
        memory_budget_mib=microvm.memory_budget_mib,
        boot_seconds=microvm.boot_seconds,
        waiting=microvm.waiting,
        most=microvm.max,
        library=microvm.library,
        kernel=microvm.kernel,
    )
    machines = load_policies(policy_directory(settings), "machines")
    return microvm_plan(plan, wish, plan.policies[settings.execution.policy], machines, check_microvm(image))


def shared_packages(settings: Settings) -> Path | None:
    """Give the directory of what every sandbox finds at ``/opt/packages``, if there is one."""
    link = settings.state_path / SHARED_PACKAGES / "current"
    return link.resolve() if link.exists() else None


def read_token_keys(settings: Settings) -> Mapping[str, PublicKey]:
    """Read LibreChat's public keys, as root: the files may be readable to nobody else."""
    jwt = settings.jwt
    return load_public_keys(
        pem=Path(jwt.public_key) if jwt.public_key else None,
        kid=jwt.kid,
        directory=Path(jwt.public_keys_dir) if jwt.public_keys_dir else None,
        jwks=Path(jwt.jwks) if jwt.jwks else None,
    )


def own_filters(settings: Settings) -> Mapping[str, bytes]:
    """Compile the system calls of our own processes, ``policies/processes``.

    Raises:
        ConfigurationError: a policy is missing, does not compile, or lets through what it does not name.
    """
    sources: dict[str, str] = {}
    for name in OWN_PROCESSES:
        file = f"processes/{name}.kafel"
        try:
            sources[file] = (policy_directory(settings) / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{file}: {error}") from None
    try:
        programs = compile_all(str(nsjail_path()), sources)
    except SeccompError as error:
        raise ConfigurationError(str(error)) from None
    return {name: programs[f"processes/{name}.kafel"] for name in OWN_PROCESSES}


def told_of_names() -> list[Path]:
    """Give the directories in which the host says how names are found, which a daemon with a network goes on reading.

    Directories, because these files are replaced, not written.
    """
    found = {path.parent for path in (RESOLV_CONF, HOSTS)} | {path.resolve().parent for path in (RESOLV_CONF, HOSTS)}
    return sorted(path for path in found if path.is_dir())


def written_directories(settings: Settings) -> list[Path]:
    """Give the directories that the daemon writes to."""
    found = [settings.state_path / "data", settings.state_path / "run"]
    if settings.bind.startswith("unix:"):
        found.append(Path(settings.bind.removeprefix("unix:")).parent)
    if settings.log.file:
        found.append(Path(settings.log.file).parent)
    return found


def bind_address(settings: Settings) -> socket.socket | None:
    """Take the address on which the daemon will listen. A unix socket it makes itself: a path is in its own view."""
    if settings.bind.startswith("unix:"):
        return None
    try:
        return Config.from_mapping(bind=settings.bind).create_sockets().insecure_sockets[0]
    except OSError as error:
        raise GaolerError(f"nobody can listen on {settings.bind}: {error}") from None


def prepare(
    settings: Settings,
    writable: Sequence[Path] = (),
    watch_fd: int | None = None,
    *,
    listening: bool = False,
    probing: bool = False,
) -> Prepared:
    """Do all that needs root and become the daemon's ordinary user.

    ``writable``: more directories that the daemon has to reach and to write to. ``watch_fd``: logging mode, see
    :mod:`supervisor.jailer.watch`; nothing that is read here asks for it, only a command of the operator's.
    ``listening``: it will serve on the bind of the settings. ``probing``: have virtual machines booted also where they
    are known not to work, to see what becomes of it.

    Raises:
        ConfigurationError: something is wrong or missing; nothing is left running.
        GaolerError: somebody else listens on the bind.
    """
    if os.geteuid() != 0:
        raise ConfigurationError(
            "setting up sandboxes needs root: run it with sudo; root is given up before anything is served"
        )
    policies, policy = read_policy(settings)
    image = find_image(settings)
    profiles = load_profiles(policy_directory(settings))
    tiers = tiers_in_force(settings, policies, image.path, load_languages(), with_keys=True)
    network = prepare_network(settings, policy)
    languages = sized(find_languages(image, profiles, network.environment), policy.limits.memory_bytes)
    catalogue = _catalogue(settings, image, languages, policy, tiers)
    plan = setup_plan(settings, image, policies, profiles, languages, network.authority)
    if plan.microvm is not None and tiers.unavailable and not probing:
        log.warning("no virtual machines reason=%s", tiers.unavailable)
        plan = replace(plan, microvm=None)
    token_keys = read_token_keys(settings)
    oauth_keys = load_oauth_keys(Path(settings.mcp.oauth_jwks)) if settings.mcp.authorization_server else {}
    remote = read_remote_files(settings)
    certificate = open_certificate(settings) if listening else None
    shown = shown_directories(settings) if listening else []
    leave_group_of_unit()
    connector = start_way_out(settings, plan.filters["connector"], plan.code, told_of_names(), as_root=True)
    try:
        jailer = start_jailer(replace(plan, watch_fd=watch_fd))
    except BaseException:
        if connector is not None:
            connector.close()
        raise
    bound = bind_address(settings) if listening else None
    key, _made = read_or_make_key(settings, settings.state_path / KEY_FILE)
    admin_key = read_or_make_admin_key(settings)
    if admin_key == key:
        raise ConfigurationError("admin_key may not be the API key: callers would be operators", field="admin_key")
    if not settings.admin_key:
        log.info("the master key is in %s", settings.state_path / ADMIN_KEY_FILE)
    become_ordinary_user(
        settings.jailer.daemon_uid,
        settings.state_path / "root",
        [*plan.code, *DOORS, policy_directory(settings)],
        [*written_directories(settings), *writable],
        [*(told_of_names() if plan.egress else ()), *shown],
    )
    own_filter = plan.filters["daemon"]
    return Prepared(
        remote.shown(settings),
        policy,
        languages,
        key,
        jailer,
        token_keys,
        oauth_keys,
        network,
        catalogue,
        tiers,
        own_filter,
        bound,
        dial=None if connector is None else connector.dial,
        connector=connector,
        signing_key=remote.signing_key,
        trusted_keys=remote.trusted_keys,
        certificate=certificate,
        image_name=image.path.name,
        admin_key=admin_key,
        pools=plan.pools,
    )
