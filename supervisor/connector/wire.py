"""What daemon and connector say to each other: a question in one datagram, and one answer on the socket it brought.

A question carries one end of a fresh pair of sockets, on which the answer comes with the connected socket beside it:
so no answer can be taken for another's, and whoever waits no longer closes his end. For a unix socket the question
brings that too, not yet connected: the connector can make none.
"""

from __future__ import annotations

import array
import socket
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from supervisor.connector.allowlist import Allowed

MAX_BYTES: Final = 1024
"""Of a question, and of an answer."""
MAX_SECONDS: Final = 600.0
MAX_DESCRIPTORS: Final = 2
READY: Final = b"ready"
"""The connector's first word, when its filter is on."""


class Order(Struct, frozen=True):
    """What the connector is started with."""

    allowed: Allowed
    program: bytes
    """Its seccomp program (BPF)."""
    level: str


class Question(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Dial this."""

    host: Annotated[str, Meta(max_length=300)]
    port: Annotated[int, Meta(ge=0, le=65_535)]
    seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS)]


class Answer(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """``number`` is an errno; 0: the connected socket is beside it."""

    number: int
    reason: Annotated[str, Meta(max_length=400)] = ""


encoder: Final = msgspec.msgpack.Encoder()
question_decoder: Final = msgspec.msgpack.Decoder(Question)
answer_decoder: Final = msgspec.msgpack.Decoder(Answer)
order_decoder: Final = msgspec.msgpack.Decoder(Order)
DESCRIPTORS_SPACE: Final = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Give the descriptors that came beside a message; they are the caller's to close."""
    numbers = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    return list(numbers)
