"""What the network needs of root at start: presets, credentials, an authority. A wrong rule refuses to start here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from egress.control import Limits
from supervisor.errors import ConfigurationError
from supervisor.network.authority import AUTHORITY_FILE, HOST_AUTHORITIES, read_authorities, read_or_make_authority
from supervisor.network.environment import OFFLINE, network_environment
from supervisor.network.presets import Preset, read_presets
from supervisor.network.rule_files import read_rule_sets
from supervisor.network.rules_in_force import RulesInForce, RuleSource
from supervisor.policy import PACKAGED_POLICIES, Policy
from supervisor.settings.tree import Settings


def prepare_network(settings: Settings, policy: Policy) -> RuleSource:
    """Read everything, and check that the rules hold together.

    Raises:
        ConfigurationError: a rule or credential is wrong or missing.
    """
    if policy.network != "egress":
        return replace(rule_source(settings, policy, {}, {}), environment=OFFLINE)
    source = rule_source(settings, policy, read_presets(os.environ, Path.home()), read_credentials(settings))
    sets = read_rule_sets(source.directory, source.given, source.presets, source.names)
    source = replace(source, environment=network_environment(sets.values(), source.presets))
    if any(rule.intercept for each in sets.values() for rule in each.rules):
        authorities = Path(settings.egress.authorities) if settings.egress.authorities else HOST_AUTHORITIES
        authority = read_or_make_authority(settings.state_path / AUTHORITY_FILE)
        source = replace(source, authority=authority, trusted=read_authorities(authorities))
    RulesInForce(source)
    return source


def rule_source(
    settings: Settings, policy: Policy, presets: Mapping[str, Preset], credentials: Mapping[str, str]
) -> RuleSource:
    """Put together where the rules of a policy come from."""
    egress = settings.egress
    directory = Path(settings.jailer.policy_dir) if settings.jailer.policy_dir else PACKAGED_POLICIES
    return RuleSource(
        names=tuple(policy.egress),
        directory=directory / "egress",
        given=settings.state_path / "data" / "egress",
        presets=presets,
        limits=Limits(
            connections=egress.connections,
            total_bytes=egress.total_bytes,
            idle_seconds=egress.idle_seconds,
            connection_seconds=egress.connection_seconds,
            connect_seconds=egress.connect_seconds,
            queries_per_second=egress.queries_per_second,
            records_per_second=egress.records_per_second,
        ),
        name_servers=tuple(filter(None, egress.name_servers.split(","))),
        credentials=credentials,
    )


def read_credentials(settings: Settings) -> Mapping[str, str]:
    """Read the files of ``egress.credentials_dir``: each is a secret that rules may add to requests.

    Raises:
        ConfigurationError: one cannot be read, or cannot stand in a header.
    """
    if not settings.egress.credentials_dir:
        return {}
    found: dict[str, str] = {}
    try:
        for path in sorted(Path(settings.egress.credentials_dir).iterdir()):
            if path.is_file():
                found[path.name] = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"a credential cannot be read: {error}", field="egress.credentials_dir") from None
    for name, value in found.items():
        if not value.isprintable() or not 8 <= len(value) <= 8192:
            raise ConfigurationError(
                f"the credential {name} is not of 8 to 8192 printable characters", field="egress.credentials_dir"
            )
    return found
