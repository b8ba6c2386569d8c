"""What an error of Redis means for the call that met it."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final

import redis


class Fault(Enum):
    """What to do about it."""

    LOST = auto()
    """No answer, or none yet: try again."""
    ELSEWHERE = auto()
    """Another server has our keys now: look for it, and try again."""
    REFUSED = auto()
    """We may not: the settings are wrong, or have become so."""
    FULL = auto()
    """It keeps nothing more."""
    OURS = auto()
    """The call was wrong."""


_CODES: Final = {
    "LOADING": Fault.LOST,
    "BUSY": Fault.LOST,
    "TRYAGAIN": Fault.LOST,
    "CLUSTERDOWN": Fault.LOST,
    "NOREPLICAS": Fault.LOST,
    # While a slot moves, some of its keys are elsewhere; our scripts need them all in one place, so they wait.
    "ASK": Fault.LOST,
    "READONLY": Fault.ELSEWHERE,
    "MASTERDOWN": Fault.ELSEWHERE,
    "MOVED": Fault.ELSEWHERE,
    "UNBLOCKED": Fault.ELSEWHERE,
    "NOAUTH": Fault.REFUSED,
    "WRONGPASS": Fault.REFUSED,
    "NOPERM": Fault.REFUSED,
    "OOM": Fault.FULL,
    "MISCONF": Fault.FULL,
}
_IN_SCRIPT: Final = re.compile(r"(?:^|: -?|\s-)([A-Z]{3,})\s")
"""An error of a command in a script is quoted by servers before 7 with ``-CODE``, and begins with it since then."""


def fault_of(error: BaseException) -> Fault:
    """Say what an error means."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return Fault.REFUSED
    if isinstance(error, redis.ResponseError):
        code = getattr(error, "status_code", None)
        if code in _CODES:
            return _CODES[code]
        for quoted in _IN_SCRIPT.findall(str(error)):
            if quoted in _CODES:
                return _CODES[quoted]
        # Said of commands and of keys, without a code.
        return Fault.REFUSED if "The user executing the script" in str(error) else Fault.OURS
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return Fault.LOST
    return Fault.OURS
