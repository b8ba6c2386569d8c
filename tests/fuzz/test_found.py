"""What fuzzing and attacking have found, each under its name."""

from __future__ import annotations

import json
import struct
from typing import cast

import msgspec
import pytest
import trio
import trio.testing
from quart import Request

from http_api.multipart import FilePart, MultipartReader
from mcp_server import uris
from mcp_server.tools.common import content_of
from supervisor.errors import ConfigurationError, InvalidRequest, NotFound, SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.channels import FRAME_COST, MESSAGE, WINDOW_BYTES, ProtocolError, open_connection
from supervisor.jailer.packages import BadArchive, Unpacker
from supervisor.jailer.remote_program import MAX_WRITES, RemoteProgram
from supervisor.network.rule_files import decode_rules
from tests.daemon import Daemon
from tests.fuzz.bodies import Sent
from tests.fuzz.jailer import frame


@pytest.mark.parametrize("decode", [protocol.decode_request, protocol.decode_answer])
def test_text_that_is_no_utf8_in_a_message_is_an_error_of_decoding(decode: object) -> None:
    """It was a ``UnicodeDecodeError``, which nobody had declared and nobody caught."""
    assert callable(decode)
    with pytest.raises(msgspec.DecodeError):
        decode(b"\x81\xa4type\xa4\xff\xff\xff\xff")


def test_rules_that_are_no_utf8_are_refused_as_rules() -> None:
    with pytest.raises(ConfigurationError):
        decode_rules(b'{"allow": ["\xff"]}', "x")


def test_a_head_of_an_archive_that_is_no_utf8_is_a_bad_archive() -> None:
    unpacker = Unpacker.__new__(Unpacker)
    unpacker._buffer = bytearray(struct.pack("!I", 9) + b"\x81\xa4name\xa1\xff\xff")
    unpacker._files = 0
    with pytest.raises((BadArchive, struct.error)):
        while unpacker._begin_file():
            pass


@pytest.mark.root
def test_an_interpreter_that_answers_with_bytes_loses_its_state_and_nothing_else(daemon: Daemon) -> None:
    before = len(daemon.lines())
    code = 'import os, socket; socket.socket(fileno=os.dup(3)).send(b\'{"id": 1, "error": "\\xff"}\')'
    daemon.try_execute(code, stateful=True)
    assert not [line for line in daemon.lines()[before:] if "Traceback" in line or "UnicodeDecodeError" in line]
    assert daemon.execute("print(1)", stateful=True)["stdout"] == "1\n"


def test_an_address_without_a_path_is_unknown() -> None:
    """It was a ``ValueError``."""
    with pytest.raises(NotFound):
        uris.parse("gaoler://session")


@pytest.mark.parametrize("text", ["eA===", "/z//+BA9A9A9A9xz===", "eA=\u2003="])
def test_base64_ends_with_two_signs_at_most_and_has_no_other_spaces(text: str) -> None:
    with pytest.raises(InvalidRequest):
        content_of(None, text, 100)


@pytest.mark.parametrize("content", [b"x", b"a,b\r\nc,d", b"\r", b"\n\r\n", b"\r\n--bounds"])
async def test_a_file_is_the_same_wherever_its_upload_is_cut(content: bytes) -> None:
    """A piece that ended between the two dashes of the last boundary made it a byte longer."""
    head = b'--bound\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    body = head + content + b"\r\n" + head + b"2\r\n--bound--\r\n"
    for cut in range(1, len(body)):
        reader = MultipartReader(cast("Request", Sent(body, "bound", sizes=(cut, len(body)))))
        found = [
            b"".join([chunk async for chunk in part.chunks])
            async for part in reader.parts()
            if isinstance(part, FilePart)
        ]
        assert found == [content, b"2"], cut


async def test_a_window_is_full_of_empty_frames_too() -> None:
    """They cost nothing, so a peer could have had any number of them kept."""
    ours, theirs = trio.testing.memory_stream_pair()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_connection(theirs, accepts=True) as connection:
            await ours.send_all(frame(1, MESSAGE, b"") * (WINDOW_BYTES // FRAME_COST + 1))
            await connection.ended.wait()
            await trio.testing.wait_all_tasks_blocked()
    assert caught.group_contains(ProtocolError, match="window")


async def test_answers_to_writes_that_nobody_made_end_the_program() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with open_connection(ours, accepts=False) as connection, trio.open_nursery() as nursery:
        channel = await connection.open_channel()
        await channel.send_message(b"hello")
        flood = frame(1, MESSAGE, protocol.encode(protocol.Written(size=1))) * (MAX_WRITES + 1)
        nursery.start_soon(theirs.send_all, flood)
        with pytest.raises(SandboxFailed):
            await RemoteProgram(channel).next()
        nursery.cancel_scope.cancel()


@pytest.mark.root
def test_two_slashes_are_not_found(daemon: Daemon) -> None:
    """They were a redirection, made before anybody was asked who he is, that ended in a 500."""
    answer = daemon.request("GET", "/v1/sessions/x/files//etc/passwd", key=None)
    assert answer.status in (401, 404)
    assert json.loads(answer.body)["error"]
