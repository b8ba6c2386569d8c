"""The rules of tiers as the settings, the policies, the keys and the host have them, or a refusal to start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from supervisor.errors import ConfigurationError
from supervisor.execution.tier import TierRules, check_startable
from supervisor.identity.keys import KEY_FILE, read_keys
from supervisor.microvm.availability import why_not
from supervisor.policy import Policy
from supervisor.runtimes.catalogue import Language
from supervisor.settings.tree import Settings


def tiers_in_force(
    settings: Settings,
    policies: Mapping[str, Policy],
    image: Path,
    catalogue: Collection[Language],
    *,
    with_keys: bool = False,
) -> TierRules:
    """Put the rules together. ``with_keys``: look at the tiers of API keys too, which needs rights to read them.

    Raises:
        ConfigurationError: a language that is named does not exist, or something asks for what this host does not give.
    """
    rules = replace(tiers_wanted(settings, policies, catalogue), unavailable=why_not(settings.microvm, image))
    keys = read_keys(settings.state_path / "data" / KEY_FILE) if with_keys else ()
    tiers = {name: policy.tier for name, policy in policies.items()}
    check_startable(rules, tiers, [(key.name, key.tier) for key in keys])
    return rules


def tiers_wanted(settings: Settings, policies: Mapping[str, Policy], catalogue: Collection[Language]) -> TierRules:
    """Put together what is wanted, as if every host could give it.

    Raises:
        ConfigurationError: a language that is named does not exist.
    """
    microvm = settings.microvm
    return TierRules(
        policy=policies[settings.execution.policy].tier,
        tenants=frozenset(_named(microvm.tenants)),
        languages=frozenset(_canonical(name, catalogue) for name in _named(microvm.languages)),
    )


def _named(text: str) -> Iterable[str]:
    return filter(None, text.split(","))


def _canonical(name: str, catalogue: Collection[Language]) -> str:
    for language in catalogue:
        if name.lower() in (language.name, *language.aliases):
            return language.name
    known = ", ".join(sorted(each.name for each in catalogue))
    raise ConfigurationError(f"microvm.languages names {name!r}; there are {known}", field="microvm.languages")
