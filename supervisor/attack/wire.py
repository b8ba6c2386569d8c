"""HTTP/1.1 as an attacker wants it: whole requests, or a bare connection to be misused. Over TCP or a unix socket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import h11
import msgspec
import trio

from supervisor.attack.case import Broken

MAX_ANSWER_BYTES: Final = 256 << 20
READ_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer. Header names are lower case; of one that comes twice the last counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded.

        Raises:
            Broken: it is no JSON.
        """
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            raise Broken(f"status {self.status} with a body that is no JSON: {self.body[:100]!r}") from None


async def connect(address: str) -> trio.SocketStream:
    """Open a connection to ``host:port`` or ``unix:/path``; the caller's to close.

    Raises:
        OSError: nobody listens.
    """
    if address.startswith("unix:"):
        made = trio.socket.socket(trio.socket.AF_UNIX)
        await made.connect(address.removeprefix("unix:"))
        return trio.SocketStream(made)
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host.strip("[]"), int(port))


async def send_request(
    stream: trio.abc.SendStream, method: str, path: str, headers: Mapping[str, str], body: bytes | Iterable[bytes]
) -> h11.Connection:
    """Write one request; a body in pieces is sent chunked. Gives what reads the answer."""
    machine = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    length = {"Content-Length": str(len(body))} if isinstance(body, bytes) else {"Transfer-Encoding": "chunked"}
    fields = {"Host": "localhost", **length, **headers}
    request = h11.Request(method=method, target=path, headers=list(fields.items()))
    await _send(stream, machine.send(request))
    for piece in (body,) if isinstance(body, bytes) else body:
        for start in range(0, len(piece), 1 << 20):
            await _send(stream, machine.send(h11.Data(data=piece[start : start + (1 << 20)])))
    await _send(stream, machine.send(h11.EndOfMessage()))
    return machine


async def _send(stream: trio.abc.SendStream, data: bytes | None) -> None:
    if data:
        await stream.send_all(data)


async def read_answer(stream: trio.abc.ReceiveStream, machine: h11.Connection) -> Answer:
    """Read one answer to its end.

    Raises:
        Broken: it ends too early, is no HTTP, or does not end.
    """
    head: h11.Response | None = None
    body = bytearray()
    try:
        while True:
            event = machine.next_event()
            if event is h11.NEED_DATA:
                machine.receive_data(bytes(await stream.receive_some(READ_BYTES)))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_ANSWER_BYTES:
                    raise Broken(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode().lower(): value.decode("latin-1") for name, value in head.headers}
                return Answer(head.status_code, headers, bytes(body))
            elif isinstance(event, h11.ConnectionClosed):
                raise Broken("the connection was closed without an answer")
    except h11.RemoteProtocolError as error:
        raise Broken(f"an answer that is no HTTP, or breaks off: {error}") from None
