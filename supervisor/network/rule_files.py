"""The rules as operators write them: ``policies/egress/*.toml``, read strictly and made canonical.

A set of rules that was given to a running daemon (``PUT /v1/admin/egress/NAME``) is kept in the state directory in the
same form, and stands in for the file of its name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from egress.allowlist import DEFAULT_PORTS, EVERY_HOST, Rule, Scheme, canonical_pattern
from egress.names import BadName
from egress.targets import BadTarget, checked_method
from supervisor.errors import ConfigurationError
from supervisor.network.configuration import PresetHost
from supervisor.network.presets import Preset
from supervisor.policy import PlainName

MAX_EXTRA_PORTS: Final = 24
MAX_RULES: Final = 500
MAX_FILE_BYTES: Final = 1 << 20
USUAL_PORTS: Final = frozenset({80, 443})
"""Of every sandbox that has a network."""
PresetName = Literal["python", "node", "go", "rust", "debian"]
Port = Annotated[int, Meta(ge=1, le=65_535)]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class RuleEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``[[rule]]`` as written; ``policies/README.md`` says what each key means."""

    reason: Annotated[str, Meta(min_length=8)]
    name: PlainName | None = None
    hosts: Annotated[list[str], Meta(max_length=1000)] = []
    preset: PresetName | None = None
    schemes: Annotated[list[Scheme], Meta(min_length=1)] | None = None
    ports: Annotated[list[Port], Meta(min_length=1, max_length=64)] | None = None
    methods: Annotated[list[str], Meta(max_length=32)] = []
    paths: Annotated[list[Annotated[str, Meta(pattern=r"^/[!-~]*$", max_length=1024)]], Meta(max_length=200)] = []
    addresses: Annotated[list[str], Meta(max_length=200)] = []
    total_bytes: Annotated[int, Meta(ge=1)] | None = None
    total_seconds: Annotated[float, Meta(gt=0, le=7 * 86_400)] | None = None
    log: Literal["all", "refused", "none"] = "all"
    intercept: bool = False
    credential: PlainName | None = None
    header: HeaderName = "Authorization"
    prefix: Annotated[str, Meta(pattern=r"^[ -~]*$", max_length=64)] = ""


class RuleFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file."""

    rule: Annotated[list[RuleEntry], Meta(max_length=MAX_RULES)] = []


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one name. ``origin``: the file, or ``admin``."""

    name: str
    origin: str
    written: RuleFile
    rules: tuple[Rule, ...]


def compile_rules(name: str, written: RuleFile, presets: Mapping[str, Preset], origin: str) -> RuleSet:
    """Make written rules canonical.

    Raises:
        ConfigurationError: one breaks a rule; the message names file, rule and key.
    """
    rules: list[Rule] = []
    for number, entry in enumerate(written.rule, 1):
        label = entry.name or str(number)
        try:
            rules += _compile(f"{name}/{label}", entry, presets)
        except _Fault as fault:
            raise ConfigurationError(f"egress/{origin}: rule {label}: {fault}", field=f"rule[{number - 1}]") from None
    if len({rule.name for rule in rules}) < len(rules):
        raise ConfigurationError(f"egress/{origin}: two rules have the same name")
    return RuleSet(name, origin, written, tuple(rules))


class _Fault(Exception):
    """A key of a rule is wrong."""


def _compile(name: str, entry: RuleEntry, presets: Mapping[str, Preset]) -> list[Rule]:
    if bool(entry.hosts) == (entry.preset is not None):
        raise _Fault("it has either hosts or a preset")
    _check_together(entry)
    if entry.preset is None:
        return [_rule(name, entry, tuple(_pattern(host) for host in entry.hosts), _schemes(entry), _ports(entry))]
    if entry.schemes is not None or entry.ports is not None:
        raise _Fault("schemes and ports of a preset come with it")
    return _of_preset(name, entry, presets[entry.preset].hosts if entry.preset in presets else ())


def _of_preset(name: str, entry: RuleEntry, hosts: Iterable[PresetHost]) -> list[Rule]:
    groups: dict[tuple[Scheme, int], list[str]] = {}
    for each in hosts:
        groups.setdefault((each.scheme, each.port), []).append(each.host)
    return [
        _rule(f"{name}:{scheme}:{port}", entry, tuple(dict.fromkeys(found)), (scheme,), (port,))
        for (scheme, port), found in groups.items()
    ]


def _check_together(entry: RuleEntry) -> None:
    schemes = set(entry.schemes or ())
    sees_requests = entry.intercept or schemes == {"http"}
    if (entry.methods or entry.paths) and not sees_requests:
        raise _Fault('methods and paths can be seen only of schemes = ["http"], or with intercept = true')
    if entry.credential is not None and not sees_requests:
        raise _Fault('a credential can be added only to schemes = ["http"], or with intercept = true')
    if "raw" in schemes and (entry.ports is None or entry.intercept):
        raise _Fault("raw needs ports, and cannot be intercepted")
    if entry.intercept and schemes and "https" not in schemes:
        raise _Fault("intercept is for https")
    if entry.credential is not None and EVERY_HOST in entry.hosts:
        raise _Fault("a credential is for hosts that are named")


def _rule(
    name: str, entry: RuleEntry, hosts: tuple[str, ...], schemes: tuple[Scheme, ...], ports: tuple[int, ...]
) -> Rule:
    return Rule(
        name=name,
        hosts=hosts,
        schemes=schemes,
        ports=ports,
        methods=tuple(_method(method) for method in entry.methods),
        paths=tuple(entry.paths),
        addresses=tuple(_network(text) for text in entry.addresses),
        total_bytes=entry.total_bytes,
        total_seconds=entry.total_seconds,
        log=entry.log,
        intercept=entry.intercept,
        credential=entry.credential,
        header=entry.header,
        prefix=entry.prefix,
    )


def _schemes(entry: RuleEntry) -> tuple[Scheme, ...]:
    return tuple(dict.fromkeys(entry.schemes)) if entry.schemes else ("https",)


def _ports(entry: RuleEntry) -> tuple[int, ...]:
    if entry.ports is not None:
        return tuple(dict.fromkeys(entry.ports))
    return tuple(DEFAULT_PORTS[scheme] for scheme in _schemes(entry))


def _pattern(text: str) -> str:
    try:
        return canonical_pattern(text)
    except BadName as error:
        raise _Fault(f"hosts: {text!r}: {error}") from None


def _method(text: str) -> str:
    try:
        return checked_method(text)
    except BadTarget as error:
        raise _Fault(f"methods: {text!r}: {error}") from None


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise _Fault(f"addresses: {error}") from None


def read_rule_sets(
    directory: Path, given: Path | None, presets: Mapping[str, Preset], names: Sequence[str]
) -> Mapping[str, RuleSet]:
    """Read the rules of these names: what was given to the daemon, else the file.

    Raises:
        ConfigurationError: a file is missing or breaks a rule, or the rules need too many ports.
    """
    found: dict[str, RuleSet] = {}
    for name in names:
        kept = None if given is None else given / f"{name}.json"
        if kept is not None and kept.exists():
            found[name] = compile_rules(name, decode_rules(_read(kept), "admin"), presets, "admin")
            continue
        path = directory / f"{name}.toml"
        try:
            written = msgspec.convert(tomllib.loads(_read(path).decode("utf-8")), RuleFile)
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise ConfigurationError(f"egress/{path.name}: {error}") from None
        found[name] = compile_rules(name, written, presets, path.name)
    check_ports(found)
    return found


def check_ports(sets: Mapping[str, RuleSet]) -> None:
    """Check that a sandbox can listen on all the ports.

    Raises:
        ConfigurationError: there are too many.
    """
    if len(extra_ports(rule for each in sets.values() for rule in each.rules)) > MAX_EXTRA_PORTS:
        raise ConfigurationError(f"egress: all rules together name at most {MAX_EXTRA_PORTS} ports beside 80 and 443")


def extra_ports(rules: Iterable[Rule]) -> list[int]:
    """Give the ports beside those of every sandbox."""
    return sorted({port for rule in rules for port in rule.ports} - USUAL_PORTS)


def decode_rules(payload: bytes, origin: str) -> RuleFile:
    """Read rules from JSON.

    Raises:
        ConfigurationError: they are none.
    """
    try:
        return msgspec.json.decode(payload, type=RuleFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"egress/{origin}: {error}", field="rule") from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            payload = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"a policy names egress/{path.stem}, which cannot be read: {error}") from None
    if len(payload) > MAX_FILE_BYTES:
        raise ConfigurationError(f"egress/{path.name}: larger than {MAX_FILE_BYTES} bytes")
    return payload
