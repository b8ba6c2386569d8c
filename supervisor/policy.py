"""Policies, read from ``policies/`` once at start. Whatever is missing, unknown or out of bounds refuses to start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from supervisor.errors import ConfigurationError

_T = TypeVar("_T")

PACKAGED_POLICIES = Path(__file__).resolve().parent.parent / "policies"

Count = Annotated[int, Meta(ge=1, le=1 << 22)]
Bytes = Annotated[int, Meta(ge=4096, le=1 << 40)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,63}$"
PlainName = Annotated[str, Meta(pattern=NAME_PATTERN)]
AbsolutePath = Annotated[str, Meta(pattern=r"^/([A-Za-z0-9_.+-]+(/[A-Za-z0-9_.+-]+)*)?$")]
Reason = Annotated[str, Meta(min_length=8)]
Warm = Literal["fork", "exec"]
"""A waiting interpreter is forked from the profile's zygote, or started afresh (slower, shares nothing)."""
Network = Literal["none", "egress"]
"""Nothing but loopback, or the egress proxy too, with the rules of ``egress``."""
State = Literal["never", "asked", "session"]
"""Who may keep an interpreter: nobody, requests that ask for it, or also every one that names its session."""
_PARTS: Final = "parts.kafel"
ClaimId = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9-]*$")]


class LimitTable(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]`` of a policy; the units are in the names."""

    wall_seconds: Seconds
    compile_seconds: Seconds
    lifetime_seconds: Seconds
    cpu_cores: Annotated[float, Meta(gt=0, le=1024)]
    memory_bytes: Annotated[int, Meta(ge=16 << 20, le=1 << 44)]
    processes: Annotated[int, Meta(ge=4, le=1 << 22)]
    open_files: Annotated[int, Meta(ge=16, le=1 << 20)]
    file_bytes: Bytes
    workspace_bytes: Bytes
    workspace_inodes: Count
    temporary_bytes: Bytes
    temporary_inodes: Count
    output_bytes: Annotated[int, Meta(ge=1024, le=16 << 20)]
    output_kill_bytes: Annotated[int, Meta(ge=1024, le=1 << 40)]


SOURCE_PATTERN: Final = (
    r"^(@(usr|image|etc|dev|shared|workspace|code|guest|gaoler|machine|machine-dev)|/?[A-Za-z0-9_.+/-]+)$"
)


class MountEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[mount]]``: one mount or link of the sandbox's file system."""

    target: AbsolutePath
    kind: Literal["bind", "tmpfs", "proc", "symlink"]
    reason: Reason
    claim: ClaimId
    source: Annotated[str, Meta(pattern=SOURCE_PATTERN)] | None = None
    writable: bool = False
    temporary: bool = False
    """A tmpfs of the size ``temporary_bytes``."""
    size_bytes: Bytes | None = None


class MaskEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[mask]]``: a file or directory to be covered by nothing, if it exists."""

    target: AbsolutePath
    reason: Reason
    claim: ClaimId


class CopyEntry(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[copy]]``: something public of the ``/etc`` of the image's base that the sandbox's gets a copy of."""

    source: AbsolutePath
    reason: Reason
    claim: ClaimId
    host: bool = False
    """Of the host's ``/etc``, also if the image has one of its own."""


class MountTable(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of ``policies/mounts``."""

    mount: list[MountEntry]
    mask: list[MaskEntry] = []
    copy: list[CopyEntry] = []


class SandboxFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of ``policies/sandbox``, as written."""

    tier: Literal["nsjail", "microvm"]
    seccomp: PlainName
    mounts: PlainName
    network: Network
    warm: Warm
    state: State
    limits: LimitTable
    egress: list[PlainName] = []
    """Files of ``policies/egress``: whatever their rules allow together. Empty: nothing, but with an explanation."""


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """A policy with everything it names in place. ``seccomp_source`` is kafel text."""

    name: str
    tier: Literal["nsjail", "microvm"]
    network: Network
    warm: Warm
    state: State
    limits: LimitTable
    seccomp_name: str
    seccomp_source: str
    mounts: MountTable
    egress: list[str] = []


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of ``policies/profiles``: what a waiting interpreter has imported, and how long its zygote lasts."""

    language: PlainName
    preimport: list[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]]
    exercise: str
    forks: Annotated[int, Meta(ge=1, le=1_000_000)]
    minutes: Annotated[float, Meta(gt=0, le=24 * 60)]


def load_profiles(directory: Path = PACKAGED_POLICIES) -> Mapping[str, Profile]:
    """Read every runtime profile of ``directory``.

    Raises:
        ConfigurationError: a file is not TOML or breaks a rule, or there is none; the message names file and key.
    """
    profiles = {path.stem: _read(path, Profile) for path in sorted((directory / "profiles").glob("*.toml"))}
    if not profiles:
        raise ConfigurationError(f"no profile in {directory / 'profiles'}: at least python.toml is needed")
    return profiles


def load_policies(directory: Path = PACKAGED_POLICIES, folder: str = "sandbox") -> Mapping[str, Policy]:
    """Read every policy of ``directory``; ``folder``: ``sandbox``, or ``machines`` for the jails of virtual machines.

    Raises:
        ConfigurationError: a file is missing, is not TOML, or breaks a rule; the message names file and key.
    """
    policies: dict[str, Policy] = {}
    for path in sorted((directory / folder).glob("*.toml")):
        written = _convert(path, _extended(path), SandboxFile)
        check_limits(path.name, written.limits)
        if written.egress and written.network != "egress":
            raise ConfigurationError(f'{path.name}: egress names rules, but network is not "egress"')
        policies[path.stem] = Policy(
            name=path.stem,
            tier=written.tier,
            network=written.network,
            warm=written.warm,
            state=written.state,
            limits=written.limits,
            seccomp_name=written.seccomp,
            seccomp_source=_seccomp(directory / "seccomp" / f"{written.seccomp}.kafel", wanted_by=path.name),
            mounts=_mounts(directory / "mounts" / f"{written.mounts}.toml", wanted_by=path),
            egress=written.egress,
        )
    if not policies:
        raise ConfigurationError(f"no policy in {directory / folder}")
    return policies


def load_seccomp_profiles(wanted: Mapping[str, str], directory: Path = PACKAGED_POLICIES) -> Mapping[str, str]:
    """Read the seccomp profiles of languages: kafel source by name, each after the parts that they are made of.

    ``wanted``: who names it, for each name.

    Raises:
        ConfigurationError: a file is missing, is empty or has no default; the message says who names it.
    """
    if not wanted:
        return {}
    folder = directory / "seccomp" / "languages"
    parts = folder / _PARTS
    # On one line, so that the compiler's line numbers are those of the profile.
    before = " ".join(_without_comments(_text(parts, wanted_by="every seccomp profile of a language")).split())
    found: dict[str, str] = {}
    for name, who in wanted.items():
        if f"{name}.kafel" == _PARTS:
            raise ConfigurationError(f"{who} is no profile, but what profiles are made of")
        found[name] = f"{before} {_seccomp(folder / f'{name}.kafel', wanted_by=who)}"
    return found


def _seccomp(path: Path, *, wanted_by: str) -> str:
    """Read a profile that says what becomes of everything it does not name."""
    text = _text(path, wanted_by=wanted_by)
    bare = _without_comments(text)
    if not bare.strip():
        raise ConfigurationError(f"{wanted_by} names {_shown(path)}, which is empty")
    if not re.search(r"\bUSE\s+\w+\s+DEFAULT\s+\w+", bare):
        raise ConfigurationError(
            f"{wanted_by} names {_shown(path)}, which has to end with: USE <policy> DEFAULT KILL_PROCESS"
        )
    return text


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def _shown(path: Path) -> str:
    """Give the path below the folder of policies."""
    return str(Path(*path.parts[path.parts.index("seccomp") :])) if "seccomp" in path.parts else path.name


def _extended(path: Path) -> dict[str, Any]:
    """Read a policy with the one that it ``extends``: its own keys count, and those of its tables."""
    written = _table(path)
    base = written.pop("extends", None)
    if base is None:
        return written
    if not isinstance(base, str) or not re.fullmatch(NAME_PATTERN, base) or base == path.stem:
        raise ConfigurationError(f"{path.parent.name}/{path.name}: extends has to name another policy")
    under = _table(path.with_name(f"{base}.toml"))
    if "extends" in under:
        raise ConfigurationError(f"{path.parent.name}/{path.name}: {base} extends a policy itself")
    return {**under, **written, "limits": {**under.get("limits", {}), **written.get("limits", {})}}


def _read(path: Path, kind: type[_T]) -> _T:
    return _convert(path, _table(path), kind)


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"{path.parent.name}/{path.name}: {error}") from None


def _convert(path: Path, table: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path.parent.name}/{path.name}: {error}") from None


def _text(path: Path, *, wanted_by: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{wanted_by} names {path.parent.name}/{path.name}, which cannot be read: {error}"
        ) from None


def _mounts(path: Path, *, wanted_by: Path) -> MountTable:
    _text(path, wanted_by=wanted_by.name)
    table = _read(path, MountTable)
    if not table.mount or table.mount[0].target != "/":
        raise ConfigurationError(f'{path.name}: the first [[mount]] has to be the root, target = "/"')
    for entry in table.mount:
        if (entry.kind in ("bind", "symlink")) != (entry.source is not None):
            raise ConfigurationError(
                f"{path.name}: {entry.target}: a source belongs to kind bind and symlink, and only there"
            )
        if entry.kind == "tmpfs" and entry.temporary == (entry.size_bytes is not None):
            raise ConfigurationError(f"{path.name}: {entry.target}: a tmpfs has either size_bytes or temporary = true")
        if entry.kind == "bind" and entry.writable and entry.source != "@workspace":
            raise ConfigurationError(f"{path.name}: {entry.target}: only @workspace may be bound writable")
    return table


def check_limits(name: str, limits: LimitTable) -> None:
    """Hold the rules between limits.

    Raises:
        ConfigurationError: one is broken; the message begins with ``name``.
    """
    if limits.temporary_bytes >= limits.memory_bytes:
        # A full tmpfs would be an OOM kill instead of "no space left on device".
        raise ConfigurationError(f"{name}: limits.temporary_bytes has to be less than limits.memory_bytes")
    if limits.output_kill_bytes < limits.output_bytes:
        raise ConfigurationError(f"{name}: limits.output_kill_bytes has to be at least limits.output_bytes")
