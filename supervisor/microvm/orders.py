"""What the host has a guest do, one order on a channel of its own."""

from __future__ import annotations

import msgspec

from supervisor.jailer.channels import MAX_PAYLOAD_BYTES, Connection, ProtocolError
from supervisor.jailer.enclosure import JailError
from supervisor.microvm import protocol
from supervisor.microvm.guard import GuestFault
from supervisor.microvm.log_ring import SHOWN_CHARACTERS


async def ask(connection: Connection, order: protocol.Order) -> None:
    """Give an order and wait until it is done.

    Raises:
        GuestFault: it is not.
        JailError: it is too large: of policies or profiles there are too many.
        ChannelClosed: the guest has gone.
    """
    payload = protocol.encode(order)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise JailError(f"what a guest is told has {len(payload)} bytes, and a message at most {MAX_PAYLOAD_BYTES}")
    channel = await connection.open_channel()
    try:
        await channel.send_message(payload)
        word = protocol.decode_word(await channel.receive_message())
    except (msgspec.DecodeError, UnicodeDecodeError, ProtocolError) as error:
        raise GuestFault(f"the guest breaks the protocol: {str(error)[:SHOWN_CHARACTERS]!a}") from None
    finally:
        await channel.aclose()
    if isinstance(word, protocol.Failed):
        raise GuestFault(f"the guest cannot begin: {word.reason[:SHOWN_CHARACTERS]!a}")
    if not isinstance(word, protocol.Begun):
        raise GuestFault(f"{type(word).__name__} from the guest, where something else was due")
