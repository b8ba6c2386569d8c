"""The limits of the policy in force: what its file says, or the settings instead.

They are decided here, before anybody is told of the policy: the jailer gets it with these limits and holds them itself.
"""

from __future__ import annotations

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.policy import LimitTable, Policy, check_limits
from supervisor.settings.operation import LimitsSettings


def with_limits(policy: Policy, wished: LimitsSettings) -> Policy:
    """Give the policy with the limits that are set. A temporary space that would no longer fit is halved memory.

    Raises:
        ConfigurationError: a limit cannot hold; ``field`` is its setting.
    """
    given = {name: value for name, value in msgspec.structs.asdict(wished).items() if value}
    if not given:
        return policy
    written = msgspec.structs.asdict(policy.limits)
    if "memory_bytes" in given and "temporary_bytes" not in given:
        given["temporary_bytes"] = min(written["temporary_bytes"], given["memory_bytes"] // 2)
    for name, value in given.items():
        # One at a time, so that the message can name it.
        try:
            msgspec.convert({**written, name: value}, LimitTable)
        except msgspec.ValidationError as error:
            key = f"limits.{name}"
            raise ConfigurationError(f"{key} = {value} is not allowed: {error}", field=key) from None
    limits = msgspec.convert({**written, **given}, LimitTable)
    check_limits("the settings", limits)
    return msgspec.structs.replace(policy, limits=limits)
