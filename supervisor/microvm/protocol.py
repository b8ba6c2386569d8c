"""What host and guest say to each other on the one port between them.

The port's name and the greeting are in :mod:`supervisor.microvm.places`: the guest greets when it has opened the port,
because what comes before that is lost. From then on it carries frames of :mod:`supervisor.jailer.channels`. The host
opens channels, the guest accepts them. The first message of a channel says what it is:

============  ==========================================================================================================
first          what it is
============  ==========================================================================================================
``Begin``     once, before all others: start the jailer. ``Begun``, or ``Failed`` with the reason
``Clock``     set the clock: at the start it came with ``Begin``, this one is for after a pause. ``Begun``
``Egress``    the guest tells here of connections that programs want (``Wanted``), and of datagrams (``Datagram``),
              which are answered by ``Datagram`` with the same number
``Carry``     one of those connections: data both ways; ``Finished`` instead of an end of file, by either side
others        the jailer protocol, passed on as it is; the ``jail`` of a ``Background`` is translated at every hop
============  ==========================================================================================================

What a guest says is hostile: it is decoded strictly, bounded, and never more than words about its own connections.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.interpreters import RuntimeProfile
from supervisor.jailer.seccomp import Compiled
from supervisor.policy import Policy

ENTROPY_BYTES: Final = 64
MAX_CARRIED: Final = 256
"""Connections of one guest at a time; more are closed by the host."""
MAX_DATAGRAM_BYTES: Final = 4096

Number = Annotated[int, Meta(ge=1, le=(1 << 62))]
Address = Annotated[str, Meta(max_length=45)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class GuestPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """What the guest's jailer is started with. Paths are fixed: :mod:`supervisor.microvm.places`."""

    policies: dict[str, Policy]
    """Of the sandboxes in the guest: their tier is ``nsjail`` there."""
    seccomp_profiles: dict[str, str]
    compiled: Compiled | None
    """What policies and profiles name, as the host's jailer has compiled it; a guest would take seconds."""
    profiles: list[RuntimeProfile]
    pools: list[PoolPlan]
    filters: dict[str, bytes]
    """Seccomp programs of the guest's own processes: ``jailer`` and ``proxy``."""
    init: str
    """The reaping init of a jail."""
    egress: bool
    build_seconds: Annotated[float, Meta(gt=0, le=600)]
    """How long building a jail may take; the first one waits for interpreters that import their libraries."""
    log_level: str


class Begin(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="begin"):
    """Set the clock, take the entropy, start the jailer."""

    clock_nanoseconds: int
    entropy: bytes
    plan: GuestPlan


class Clock(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="clock"):
    """Set the clock to so many nanoseconds since 1970."""

    clock_nanoseconds: int


class Egress(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="egress"):
    """Tell here what programs want of the network."""


class Carry(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="carry"):
    """Carry the connection of this number."""

    number: Number


Order = Begin | Clock | Egress | Carry
"""What the host says first on a channel that is not the jailer's."""


class Begun(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="begun"):
    """Done."""


class Failed(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="failed"):
    """It could not be done."""

    reason: Annotated[str, Meta(max_length=2048)]


class Wanted(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="wanted"):
    """A program has connected to this address. Whose it is the host knows: a guest is one session's."""

    number: Number
    address: Address
    port: Port


class Datagram(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="datagram"):
    """A datagram to this address, or the answer to the one with this number."""

    number: Number
    address: Address
    port: Port
    payload: Annotated[bytes, Meta(max_length=MAX_DATAGRAM_BYTES)]


class Finished(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="finished"):
    """Nothing more will come on this side of a carried connection."""


Word = Begun | Failed | Wanted | Datagram | Finished
"""What the guest says; ``Datagram`` and ``Finished`` the host says too."""

_encoder: Final = msgspec.msgpack.Encoder()
_order_decoder: Final[msgspec.msgpack.Decoder[Order]] = msgspec.msgpack.Decoder(Order)
_word_decoder: Final[msgspec.msgpack.Decoder[Word]] = msgspec.msgpack.Decoder(Word)
ORDER_TAGS: Final = frozenset(("begin", "clock", "egress", "carry"))


class _Tagged(Struct, frozen=True):
    type: str


_tag_decoder: Final[msgspec.msgpack.Decoder[_Tagged]] = msgspec.msgpack.Decoder(_Tagged)


def encode(message: Order | Word) -> bytes:
    """Encode a message."""
    return _encoder.encode(message)


def decode_order(payload: bytes) -> Order | None:
    """Decode the first message of a channel; ``None``: it is the jailer protocol's.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    if _tag_decoder.decode(payload).type not in ORDER_TAGS:
        return None
    return _order_decoder.decode(payload)


def decode_word(payload: bytes) -> Word:
    """Decode what the guest says.

    Raises:
        msgspec.DecodeError: it is not that.
    """
    return _word_decoder.decode(payload)
