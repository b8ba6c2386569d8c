"""What an error of Redis means for the call that met it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

import msgspec
import redis

from supervisor.errors import StoreSpoilt


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
    SPOILT = auto()
    """What is kept there is not what we wrote."""
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
    "WRONGTYPE": Fault.SPOILT,
}
_IN_SCRIPT: Final = re.compile(r"(?:^|: -?|\s-)([A-Z]{3,})\s")
"""An error of a command in a script is quoted by servers before 7 with ``-CODE``, and begins with it since then."""
_VALUE: Final = re.compile(
    r"not an integer|not a valid float|resulting score is not|would overflow|would produce NaN|Invalid stream ID"
    r"|attempt to (?:compare|concatenate|index|perform arithmetic)|bad argument #|Expected .* but found"
    r"|last possible ID|equal or smaller than the target stream|too many results to unpack"
    r"|arguments must be strings or integers"
)
"""What servers and their scripts say of a value that none of us has written."""
SPOILT: Final = "the server's Redis holds what this server has not written"


@contextmanager
def reading() -> Iterator[None]:
    """Read for the block what Redis keeps: everything that cannot be read was written by nobody of ours.

    Raises:
        StoreSpoilt: that.
    """
    try:
        yield
    except (msgspec.MsgspecError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        # Not what it is: whoever can write there would choose what stands here.
        raise StoreSpoilt(SPOILT) from None


def _by_words(said: str) -> Fault:
    if _VALUE.search(said):
        return Fault.SPOILT
    # Said of commands and of keys, without a code.
    return Fault.REFUSED if "The user executing the script" in said else Fault.OURS


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
        return _by_words(str(error))
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return Fault.LOST
    return Fault.OURS
