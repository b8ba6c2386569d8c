"""The rules that hold now, and what changes them: an edited file, or an operator's request to the running daemon.

A file that has become wrong changes nothing: the rules that held go on holding, and the log says what is wrong.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from egress.allowlist import Rule
from egress.control import Configure, Limits
from supervisor.errors import ConfigurationError, InvalidRequest, NotFound, StorageFull
from supervisor.network import host_names
from supervisor.network.presets import Preset
from supervisor.network.rule_files import RuleSet, check_ports, compile_rules, decode_rules, read_rule_sets

log: Final = logging.getLogger("gaoler.network.rules")

WATCH_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class RuleSource:
    """Where rules come from. ``name_servers``: instead of the host's own; ``credentials``: by name."""

    names: tuple[str, ...]
    directory: Path
    given: Path
    presets: Mapping[str, Preset]
    limits: Limits
    name_servers: tuple[str, ...] = ()
    credentials: Mapping[str, str] = field(default_factory=dict)
    authority: tuple[str, str] | None = None
    """Certificate and key; without them no rule may intercept."""
    trusted: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of programs in the sandboxes."""


class RulesInForce:
    """Read at start; then :meth:`watch` follows the files."""

    def __init__(self, source: RuleSource) -> None:
        self._source = source
        self._sets: Mapping[str, RuleSet] = {}
        self._configuration = Configure(rule_sets={})
        self.faults = 0
        """Changes that were wrong."""
        self.read()

    def read(self) -> None:
        """Read everything anew.

        Raises:
            ConfigurationError: something is wrong; nothing has changed.
        """
        source = self._source
        sets = read_rule_sets(source.directory, source.given, source.presets, source.names)
        self._check_means(rule for each in sets.values() for rule in each.rules)
        self._take(sets)

    def _take(self, sets: Mapping[str, RuleSet]) -> None:
        source = self._source
        self._sets = sets
        self._configuration = Configure(
            rule_sets={name: each.rules for name, each in sets.items()},
            name_servers=source.name_servers or host_names.name_servers(host_names.read(host_names.RESOLV_CONF)),
            hosts=host_names.table(host_names.read(host_names.HOSTS)),
            limits=source.limits,
            credentials=dict(source.credentials),
            authority=source.authority,
            trusted=source.trusted if source.authority is not None else "",
        )

    def _check_means(self, rules: Iterable[Rule]) -> None:
        """Check that there is what the rules need."""
        for rule in rules:
            if rule.intercept and self._source.authority is None:
                raise ConfigurationError(
                    f"egress: rule {rule.name} intercepts, and no rule did when the daemon was started: restart it, "
                    "so that its sandboxes get the certificate",
                    field="intercept",
                )
            if rule.credential is not None and rule.credential not in self._source.credentials:
                raise ConfigurationError(
                    f"egress: rule {rule.name} wants the credential {rule.credential!r}, "
                    "and egress.credentials_dir has no such file",
                    field="credential",
                )

    def configuration(self) -> Configure:
        """Give what the proxy is told."""
        return self._configuration

    @property
    def sets(self) -> Mapping[str, RuleSet]:
        """Give the sets by name."""
        return self._sets

    def add(self, name: str, rule: Mapping[str, Any]) -> RuleSet:
        """Take one more rule into a name, beside those that hold, for good.

        Raises:
            NotFound, InvalidRequest: as :meth:`put`.
        """
        self._check_name(name)
        written = msgspec.to_builtins(self._sets[name].written)["rule"]
        return self.put(name, msgspec.json.encode({"rule": [*written, rule]}))

    def remove(self, name: str, rule: Mapping[str, Any]) -> RuleSet:
        """Take away the rule of a name that is written so, for good; the others go on holding.

        By what it says, not by its number: that is another rule's as soon as somebody else has changed the set.

        Raises:
            NotFound: the policy does not name such a set, or none of its rules is written so.
            InvalidRequest, StorageFull: as :meth:`put`.
        """
        self._check_name(name)
        written = msgspec.to_builtins(self._sets[name].written)["rule"]
        if rule not in written:
            raise NotFound(f"no rule of {name} is written so: it has been changed or removed meanwhile", field="rule")
        written.remove(rule)
        return self.put(name, msgspec.json.encode({"rule": written}))

    def put(self, name: str, payload: bytes) -> RuleSet:
        """Take rules for a name instead of its file's, for good.

        Raises:
            NotFound: the policy does not name such a set.
            InvalidRequest: the rules are wrong.
            StorageFull: they cannot be kept.
        """
        self._check_name(name)
        try:
            made = compile_rules(name, decode_rules(payload, name), self._source.presets, "admin")
            sets = {**self._sets, name: made}
            check_ports(sets)
            self._check_means(made.rules)
        except ConfigurationError as error:
            raise InvalidRequest(error.message, field=error.field) from None
        try:
            self._keep(name, msgspec.json.encode(made.written))
        except OSError as error:
            raise StorageFull(f"the rules cannot be kept, the earlier ones hold: {error.strerror}") from None
        self._take(sets)
        return made

    def _keep(self, name: str, payload: bytes) -> None:
        self._source.given.mkdir(mode=0o700, exist_ok=True)
        temporary = self._source.given / f".{name}.new"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(payload)
        temporary.rename(self._source.given / f"{name}.json")

    def drop(self, name: str) -> RuleSet:
        """Go back to the rules of the file.

        Raises:
            NotFound: the policy does not name such a set.
            InvalidRequest: the file is wrong.
        """
        self._check_name(name)
        kept = self._source.given / f"{name}.json"
        aside = self._source.given / f".{name}.old"
        if kept.exists():
            kept.rename(aside)
        try:
            self.read()
        except ConfigurationError as error:
            if aside.exists():
                aside.rename(kept)
            raise InvalidRequest(error.message, field=error.field) from None
        aside.unlink(missing_ok=True)
        return self._sets[name]

    def _check_name(self, name: str) -> None:
        if name not in self._source.names:
            known = ", ".join(self._source.names) or "none"
            raise NotFound(f"the policy names no such rules; it names: {known}", field="name")

    async def watch(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Follow the files for ever; ``changed`` is called when other rules hold."""
        source = self._source
        paths = [source.directory / f"{name}.toml" for name in source.names]
        paths += [source.given / f"{name}.json" for name in source.names]
        paths += [host_names.RESOLV_CONF, host_names.HOSTS]
        seen = host_names.stamp(paths)
        while True:
            await trio.sleep(WATCH_SECONDS)
            now = host_names.stamp(paths)
            if now == seen:
                continue
            seen = now
            before = self._configuration
            try:
                self.read()
            except ConfigurationError as error:
                self.faults += 1
                log.error("changed rules are not taken, the earlier ones hold: %s", error.message)
                continue
            if self._configuration != before:
                log.info("changed rules hold now")
                await changed()
