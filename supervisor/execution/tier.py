"""Which tier an execution has: the highest of what the policy, the key, the tenant and the language say. Pure.

``nsjail`` shares the host's kernel, ``microvm`` has a kernel of its own. A request may raise what applies to it, and
nothing else: one that asks for less is refused, and so is one that asks for what this host does not give. There is no
falling back from one to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from supervisor.errors import ConfigurationError, InvalidRequest, Unsupported
from supervisor.execution.values import Principal, Tier

TIERS: Final[tuple[Tier, ...]] = get_args(Tier)
"""The lowest first."""
UNAVAILABLE: Final = "tier_unavailable"
TITLES: Final[Mapping[Tier, str]] = {
    "nsjail": "namespaces, limits and system call filters on the host's kernel",
    "microvm": "the same inside a virtual machine, with a kernel of its own",
}
_SEPARATOR: Final = "@"


def highest(*tiers: Tier) -> Tier:
    """Give the highest of these."""
    return max(tiers, key=TIERS.index)


def is_below(tier: Tier, other: Tier) -> bool:
    """Say whether ``tier`` is the lower one."""
    return TIERS.index(tier) < TIERS.index(other)


@dataclass(frozen=True, slots=True)
class TierRules:
    """What applies here. ``tenants`` and ``languages`` (by their names, no aliases) are those of tier ``microvm``."""

    policy: Tier = "nsjail"
    tenants: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    unavailable: str = ""
    """Why this host gives no virtual machines; empty: it does."""

    @property
    def best(self) -> Tier:
        """The highest that is to be had."""
        return "nsjail" if self.unavailable else "microvm"

    def of_language(self, name: str) -> Tier:
        """Give the least that every execution in this language has."""
        return highest(self.policy, "microvm" if name in self.languages else "nsjail")

    def choose(self, principal: Principal, language: str, asked: Tier | None = None) -> Tier:
        """Give the tier of an execution of ``principal`` in ``language`` (its name).

        Raises:
            InvalidRequest: it asks for less than what applies.
            Unsupported: the tier is not to be had here.
        """
        least: Tier = "nsjail"
        whose = ""
        for tier, words in self._applying(principal, language):
            if is_below(least, tier):
                least, whose = tier, words
        if asked is not None and is_below(asked, least):
            raise InvalidRequest(f"{whose} are of tier {least}; a request may only raise it", field="tier")
        tier = least if asked is None else asked
        if tier == "microvm" and self.unavailable:
            raise Unsupported(
                f"tier microvm is not to be had here: {self.unavailable}. "
                "For the operator: 'gaoler doctor --microvm' says more",
                code=UNAVAILABLE,
                field="tier",
            )
        return tier

    def _applying(self, principal: Principal, language: str) -> Iterator[tuple[Tier, str]]:
        yield self.policy, "this server's executions"
        yield principal.tier, "this key's executions"
        yield "microvm" if principal.tenant in self.tenants else "nsjail", "this tenant's executions"
        yield "microvm" if language in self.languages else "nsjail", f"executions in {language}"


def check_startable(rules: TierRules, policies: Mapping[str, Tier], keys: Collection[tuple[str, Tier]]) -> None:
    """Refuse to start where something asks for a tier that this host does not give. ``keys``: names with their tiers.

    Raises:
        ConfigurationError: which one it is, why it cannot be had, and what to do.
    """
    if not rules.unavailable:
        return
    asking = [(f"policy {name}", "execution.policy") for name, tier in policies.items() if tier == "microvm"]
    asking += [(f"microvm.tenants names {name}, which", "microvm.tenants") for name in sorted(rules.tenants)]
    asking += [(f"microvm.languages names {name}, which", "microvm.languages") for name in sorted(rules.languages)]
    asking += [(f"API key {name}", "keys") for name, tier in keys if tier == "microvm"]
    if asking:
        who, field = asking[0]
        raise ConfigurationError(
            f"{who} asks for tier microvm, which is not to be had: {rules.unavailable}. "
            "'gaoler doctor --microvm' says more; nothing falls back to a lower tier",
            field=field,
        )


def state_label(profile: str, tier: Tier) -> str:
    """Name what a saved namespace is of: its interpreter's profile, and its tier unless that is the lowest."""
    return profile if tier == TIERS[0] else f"{profile}{_SEPARATOR}{tier}"


def state_tier(label: str) -> Tier:
    """Give the tier of a saved namespace by its label."""
    named = label.partition(_SEPARATOR)[2]
    return next((tier for tier in TIERS if tier == named), TIERS[0])
