"""The S3 store before a server that errs, is slow, goes away, lies, or is reached in another way."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
import trustme

from supervisor.connector.dialling import dial_directly
from supervisor.errors import ConfigurationError, NotFound, StorageFull, StoreUnavailable
from supervisor.store import s3, s3_client, s3_upload
from supervisor.store.marks import LocalMarks
from supervisor.store.s3 import S3Blobs, open_s3
from tests.s3_server import FaultProxy, S3Server, open_fault_proxy

PART = 5 << 20
LONG = os.urandom(PART + 1000)
LONGER = LONG + LONG


async def nothing_is_named(digests: Sequence[str]) -> list[str]:
    return list(digests)


def no_marks() -> LocalMarks:
    return LocalMarks(nothing_is_named, 0.0)


@dataclass
class World:
    server: S3Server
    bucket: str
    proxy: FaultProxy
    blobs: S3Blobs

    def objects(self) -> dict[str, int]:
        listed = self.server.client().list_objects_v2(Bucket=self.bucket)
        return {each["Key"]: each["Size"] for each in listed.get("Contents", ())}

    def uploads(self) -> list[Any]:
        return list(self.server.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", ()))


@asynccontextmanager
async def world_with(server: S3Server, **settings: Any) -> AsyncIterator[World]:
    bucket = server.new_bucket()
    async with open_fault_proxy(server.port) as proxy:
        given = server.settings(bucket, proxy.port, part_bytes=PART, **settings)
        async with open_s3(given, dial_directly, no_marks()) as blobs:
            proxy.seen.clear()
            yield World(server, bucket, proxy, blobs)


@pytest.fixture
async def world(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(s3_client, "PAUSE_SECONDS", 0.01)
    async with world_with(s3_server) as made:
        yield made


async def store(blobs: S3Blobs, content: bytes) -> str:
    async with blobs.writer() as writer:
        for start in range(0, len(content), 1 << 20):
            await writer.write(content[start : start + (1 << 20)])
        digest, _ = await writer.commit()
    assert digest == hashlib.sha256(content).hexdigest()
    return digest


async def read(blobs: S3Blobs, digest: str, start: int = 0) -> bytes:
    async with blobs.open(digest, start) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_slow_server_gives_the_whole_blob(world: World) -> None:
    digest = await store(world.blobs, LONG[:300_000])
    world.proxy.trickle_bytes = 5000
    assert await read(world.blobs, digest) == LONG[:300_000]


@pytest.mark.parametrize("error", [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (429, "")])
async def test_errors_that_pass_are_waited_for(world: World, error: tuple[int, str]) -> None:
    world.proxy.fail_with = error
    for content in (b"short", LONG)[: 1 + (error[0] == 503)]:
        world.proxy.fail = 2
        digest = await store(world.blobs, content)
        world.proxy.fail = 3
        assert await read(world.blobs, digest) == content
    world.proxy.fail = 1
    assert digest in await world.blobs.old(time.time() + 100)
    world.proxy.fail = 1
    await world.blobs.remove(digest, 0)
    with pytest.raises(NotFound):
        await read(world.blobs, digest)


async def every_work_is_unavailable(world: World, digest: str) -> None:
    for content in (b"another", LONG):
        with pytest.raises(StoreUnavailable):
            await store(world.blobs, content)
    with pytest.raises(StoreUnavailable):
        await read(world.blobs, digest)
    with pytest.raises(StoreUnavailable):
        await world.blobs.old(time.time())


async def test_errors_for_ever_are_said_and_then_it_goes_on(world: World) -> None:
    digest = await store(world.blobs, b"kept")
    world.proxy.fail = -1
    await every_work_is_unavailable(world, digest)
    world.proxy.fail = 0
    assert await read(world.blobs, digest) == b"kept"
    assert (world.uploads(), list(world.objects())) == ([], [world.blobs.name(digest)])


async def test_a_server_that_is_gone_is_said_and_when_it_is_back_it_goes_on(world: World) -> None:
    digest = await store(world.blobs, b"kept")
    await world.proxy.go_away()
    await every_work_is_unavailable(world, digest)
    await world.proxy.come_back()
    assert await read(world.blobs, digest) == b"kept"


async def test_a_reader_in_the_middle_is_told_of_a_server_that_goes(world: World) -> None:
    digest = await store(world.blobs, LONG)
    got = 0
    with pytest.raises(StoreUnavailable):
        async with world.blobs.open(digest) as chunks:
            async for chunk in chunks:
                got += len(chunk)
                await world.proxy.go_away()
    assert got == s3.WINDOW_BYTES


async def test_a_broken_answer_is_gone_on_with_where_it_broke(world: World) -> None:
    digest = await store(world.blobs, LONG)
    world.proxy.seen.clear()
    world.proxy.cut_answers = 2
    assert await read(world.blobs, digest) == LONG
    starts = [int(each.headers["range"].removeprefix("bytes=").split("-")[0]) for each in world.proxy.seen]
    assert starts == sorted(set(starts))
    assert len(starts) == 4


async def test_a_broken_upload_is_sent_again(world: World) -> None:
    for content in (LONG[:100_000], LONG):
        world.proxy.cut_bodies = 2
        assert await read(world.blobs, await store(world.blobs, content)) == content
    assert world.uploads() == []
    assert len(world.objects()) == 2


@pytest.mark.parametrize("lost", [1, 3])
async def test_what_was_done_and_not_answered_is_no_error_when_asked_for_again(world: World, lost: int) -> None:
    for content in (b"short", LONG):
        async with world.blobs.writer() as writer:
            await writer.write(content)
            world.proxy.lost_answers = lost
            digest, _ = await writer.commit()
        assert world.proxy.lost_answers == 0
        assert await read(world.blobs, digest) == content
    world.proxy.lost_answers = lost
    await world.blobs.remove(digest, 0)
    assert world.uploads() == []
    assert len(world.objects()) == 1


@pytest.mark.parametrize("stall", ["body", "answer", "PUT"])
@pytest.mark.parametrize("content", [b"s" * 100_000, LONG], ids=["short", "long"])
async def test_a_cancelled_upload_ends_at_once_and_leaves_nothing(world: World, stall: str, content: bytes) -> None:
    async def upload() -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            await store(world.blobs, content)

    scopes: list[trio.CancelScope] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            world.proxy.stall = stall
            nursery.start_soon(upload)
            await world.proxy.stalled.wait()
            world.proxy.stall = ""
            scopes[0].cancel()
    assert scopes[0].cancelled_caught
    assert world.uploads() == []
    # What was cancelled before its answer may be there whole, and without a name it is swept.
    assert set(world.objects().values()) <= {len(content)}
    assert not any("incoming" in key for key in world.objects())


@pytest.mark.parametrize("phase", ["complete", "copy", "delete"])
async def test_a_commit_that_is_cancelled_in_any_step_leaves_no_upload(
    world: World, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"complete": "POST", "copy": "PUT", "delete": "DELETE"}[phase]
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with world.blobs.writer() as writer:
                    await writer.write(LONG)
                    assert writer._upload is not None
                    await writer._upload.send(await writer._take(1000))

                    async def cancel() -> None:
                        await world.proxy.stalled.wait()
                        world.proxy.stall = ""
                        scope.cancel()

                    nursery.start_soon(cancel)
                    if phase == "delete":
                        await writer._upload.complete(len(LONG))
                        world.proxy.stall = method
                        await world.blobs._delete(writer._upload.key)
                    world.proxy.stall = method
                    await writer.commit()
    assert scope.cancelled_caught
    assert world.uploads() == []
    assert not any("incoming" in key for key in world.objects())


async def test_a_cancelled_download_ends_at_once_and_its_place_is_free(s3_server: S3Server) -> None:
    async with world_with(s3_server, connections=1, read_seconds=600.0) as world:
        digest = await store(world.blobs, LONG)
        for stall in ("answer", "GET"):
            world.proxy.stall, world.proxy.stalled = stall, trio.Event()
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read, world.blobs, digest)
                    await world.proxy.stalled.wait()
                    world.proxy.stall = ""
                    nursery.cancel_scope.cancel()
                assert await read(world.blobs, digest, len(LONG) - 5) == LONG[-5:]
        # A thread has its own name back a moment after its work is done.
        with trio.fail_after(60):
            while any("s3" in thread.name.lower() for thread in threading.enumerate()):  # noqa: ASYNC110 - nobody tells
                await trio.sleep(0.01)


@pytest.mark.time_limit(60)
async def test_a_call_that_is_cancelled_between_its_place_and_its_thread_ends(world: World) -> None:
    places = trio.CapacityLimiter(1)

    class Cancelling:
        async def __aenter__(self) -> None:
            await places.acquire()
            scope.cancel()

        async def __aexit__(self, *_exception: object) -> None:
            places.release()

    client, asked = world.blobs.s3, list[Any]()
    client._limiter = Cancelling()  # type: ignore[assignment]
    for _ in range(2):
        with trio.CancelScope() as scope:
            await client.call(asked.append)
        assert scope.cancelled_caught
    assert (asked, places.borrowed_tokens) == ([], 0)


async def test_what_is_damaged_is_not_taken_for_the_file(world: World) -> None:
    digests = [await store(world.blobs, content) for content in (b"short", LONG)]
    world.proxy.change = b"XXX"
    for digest, most in zip(digests, (0, len(LONG) - 1), strict=True):
        got = 0
        with pytest.raises(StoreUnavailable, match="damaged"):
            async with world.blobs.open(digest) as chunks:
                async for chunk in chunks:
                    got += len(chunk)
        assert got <= most


async def test_a_refusal_is_logged_once_and_a_full_server_is_said(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    digest = await store(world.blobs, b"kept")
    world.proxy.fail, world.proxy.fail_with = -1, (403, "AccessDenied")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="refuses"):
                await read(world.blobs, digest)
    assert len([each for each in caplog.records if "AccessDenied" in each.getMessage()]) == 1
    world.proxy.fail_with = (507, "InsufficientStorage")
    with pytest.raises(StorageFull):
        await store(world.blobs, b"more")


@pytest.mark.parametrize(
    ("error", "key"),
    [
        ((403, "InvalidAccessKeyId"), "s3.access_key"),
        ((403, "SignatureDoesNotMatch"), "s3.access_key"),
        ((400, "AuthorizationHeaderMalformed"), "s3.region"),
    ],
)
async def test_wrong_keys_are_a_wrong_setting(s3_server: S3Server, error: tuple[int, str], key: str) -> None:
    async with open_fault_proxy(s3_server.port) as proxy:
        proxy.fail, proxy.fail_with = -1, error
        settings = s3_server.settings(s3_server.new_bucket(), proxy.port)
        with pytest.raises(ConfigurationError) as caught:
            async with open_s3(settings, dial_directly, no_marks()):
                pass
    assert caught.value.field == key


async def test_an_absent_bucket_is_a_wrong_setting_and_no_server_is_not(s3_server: S3Server) -> None:
    with pytest.raises(ConfigurationError) as caught:
        async with open_s3(s3_server.settings("no-such-bucket"), dial_directly, no_marks()):
            pass
    assert caught.value.field == "s3.bucket"
    async with open_fault_proxy(s3_server.port) as proxy:
        await proxy.go_away()
        with pytest.raises(StoreUnavailable):
            async with open_s3(s3_server.settings("bucket", proxy.port, attempts=1), dial_directly, no_marks()):
                pass


async def test_nothing_comes_from_the_environment_or_a_home_directory(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3_server.client()
    (tmp_path / ".aws").mkdir()
    wrong = "[default]\nregion = moon\nendpoint_url = http://127.0.0.1:1\ns3 =\n  addressing_style = virtual\n"
    (tmp_path / ".aws" / "config").write_text(wrong)
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = theirs\n")
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "theirs",
        "AWS_SECRET_ACCESS_KEY": "theirs",
        "AWS_SESSION_TOKEN": "theirs",
        "AWS_PROFILE": "absent",
        "AWS_CA_BUNDLE": "/absent",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "AWS_DEFAULT_REGION": "moon",
        "AWS_RETRY_MODE": "nonsense",
        "AWS_MAX_ATTEMPTS": "9",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    async with world_with(s3_server) as world:
        assert await read(world.blobs, await store(world.blobs, b"x")) == b"x"
    for each in world.proxy.seen:
        assert "Credential=an-access-key/" in each.headers["authorization"]
        assert "/us-east-1/s3/" in each.headers["authorization"]
        assert "x-amz-security-token" not in each.headers


async def test_every_request_that_makes_an_object_says_how_it_is_encrypted(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "COPY_BYTES", PART + 10)
    monkeypatch.setattr(s3_upload, "COPY_PART_BYTES", PART)
    for settings in ({"encryption": "AES256"}, {"encryption": "aws:kms", "kms_key": "a-key"}):
        async with world_with(s3_server, **settings) as world:
            for content in (b"short", LONG[: PART + 5], LONGER):
                assert await read(world.blobs, await store(world.blobs, content)) == content
            made = [
                each for each in world.proxy.seen if each.method in ("PUT", "POST") and "uploadId" not in each.target
            ]
            assert len(made) == 5
            for each in made:
                assert each.headers["x-amz-server-side-encryption"] == settings["encryption"]
                assert each.headers.get("x-amz-server-side-encryption-aws-kms-key-id") == settings.get("kms_key")


async def test_no_request_has_a_checksum_that_only_amazon_knows(world: World) -> None:
    await store(world.blobs, LONG)
    for each in world.proxy.seen:
        assert not [
            name for name in each.headers if "checksum" in name or name in ("trailer", "x-amz-trailer", "expect")
        ]
        # The signature is over the content, so what is cut or changed on its way is refused.
        assert len(each.headers["x-amz-content-sha256"]) == 64


async def test_a_bucket_may_be_in_the_name_of_the_host(s3_server: S3Server) -> None:
    bucket, dialled = s3_server.new_bucket(), set()

    def dial(host: str, port: int, seconds: float) -> socket.socket:
        dialled.add(host)
        return dial_directly("127.0.0.1", port, seconds)

    async with open_fault_proxy(s3_server.port) as proxy:
        settings = s3_server.settings(
            bucket, path_style=False, url=f"http://s3.example.test:{proxy.port}", prefix="a/b.c/", part_bytes=PART
        )
        async with open_s3(settings, dial, no_marks()) as blobs:
            for content in (b"x", LONG):
                assert await read(blobs, await store(blobs, content)) == content
                assert hashlib.sha256(content).hexdigest() in await blobs.old(time.time() + 100)
    assert dialled == {f"{bucket}.s3.example.test"}
    assert all(each.target.startswith(("/a/b.c/", "/?")) for each in proxy.seen)


async def test_a_place_that_may_not_be_dialled_is_a_server_that_does_not_answer(world: World) -> None:
    def refuse(host: str, port: int, seconds: float) -> socket.socket:
        raise PermissionError("not in the settings")

    def take_too_long(host: str, port: int, seconds: float) -> socket.socket:
        raise TimeoutError

    for dial in (refuse, take_too_long):
        with pytest.raises(StoreUnavailable):
            async with open_s3(world.blobs.s3.settings, dial, no_marks()):
                pass


@asynccontextmanager
async def tls_before(port: int, authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """Listen with a certificate for ``name`` on a port of the loopback, before another one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)

    async def serve(client: trio.SSLStream[trio.SocketStream]) -> None:
        async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream, end: trio.CancelScope) -> None:
            async for data in source:
                await sink.send_all(data)
            end.cancel()

        try:
            async with client, await trio.open_tcp_stream("127.0.0.1", port) as server, trio.open_nursery() as nursery:
                nursery.start_soon(pump, client, server, nursery.cancel_scope)
                nursery.start_soon(pump, server, client, nursery.cancel_scope)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client does not trust us, or has gone

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
        yield listeners[0].transport_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_tls_trusts_the_named_authorities_and_nobody_else(s3_server: S3Server, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    bucket = s3_server.new_bucket()

    def dial(host: str, port: int, seconds: float) -> socket.socket:
        return dial_directly("127.0.0.1", port, seconds)

    async with tls_before(s3_server.port, authority, "localhost.example.test") as port:
        cases = [
            ("localhost.example.test", str(tmp_path / "ca.pem"), None),
            ("other.example.test", str(tmp_path / "ca.pem"), "s3.ca"),
            ("localhost.example.test", str(tmp_path / "other.pem"), "s3.ca"),
            ("localhost.example.test", "", "s3.ca"),
            ("localhost.example.test", str(tmp_path / "absent.pem"), "s3.ca"),
        ]
        for host, ca, wrong in cases:
            settings = s3_server.settings(bucket, url=f"https://{host}:{port}", ca=ca)
            if wrong is None:
                async with open_s3(settings, dial, no_marks()) as blobs:
                    # The file is read once: the daemon's view of the host need not have it later.
                    (tmp_path / "ca.pem").rename(tmp_path / "elsewhere")
                    assert await read(blobs, await store(blobs, LONG[:300_000])) == LONG[:300_000]
                    (tmp_path / "elsewhere").rename(tmp_path / "ca.pem")
                continue
            with pytest.raises(ConfigurationError) as caught:
                async with open_s3(settings, dial, no_marks()):
                    pass
            assert caught.value.field == wrong


async def test_old_blobs_are_listed_page_by_page_by_the_servers_clock(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PAGE_OBJECTS", 2)
    # Our clock is an hour behind the server's.
    behind = 3600.0
    settings = s3_server.settings(s3_server.new_bucket())
    async with open_s3(settings, dial_directly, no_marks(), lambda: time.time() - behind) as blobs:
        digests = {await store(blobs, bytes([number])) for number in range(5)}
        now = time.time() - behind
        assert await blobs.old(now - 60) == []
        assert set(await blobs.old(now + 60)) == digests


async def test_what_a_crash_left_is_removed_when_it_is_a_day_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.server.client()
    for number in range(2):
        client.create_multipart_upload(Bucket=world.bucket, Key=f"incoming/{number}")
        client.put_object(Bucket=world.bucket, Key=f"incoming/whole-{number}", Body=b"x")
    client.create_multipart_upload(Bucket=world.bucket, Key="others/1")
    assert await world.blobs.old(time.time()) == []
    assert len(world.objects()) == 2
    monkeypatch.setattr(s3, "LEFT_SECONDS", -60.0)
    assert await world.blobs.old(time.time()) == []
    assert ([each["Key"] for each in world.uploads()], world.objects()) == (["others/1"], {})


async def test_a_server_that_does_not_list_uploads_is_swept_all_the_same(world: World) -> None:
    digest = await store(world.blobs, b"x")
    world.proxy.fail, world.proxy.fail_target, world.proxy.fail_with = -1, "uploads", (501, "NotImplemented")
    assert await world.blobs.old(time.time() + 100) == [digest]


async def test_a_writer_and_a_sweeper_of_the_same_blobs_lose_nothing(s3_server: S3Server) -> None:
    named: set[str] = set()

    async def unreferenced(digests: Sequence[str]) -> list[str]:
        await trio.lowlevel.checkpoint()
        return [digest for digest in digests if digest not in named]

    marks, removed = LocalMarks(unreferenced, 3600.0), 0
    settings = s3_server.settings(s3_server.new_bucket(), connections=4)
    contents = [bytes([number]) * size for number, size in enumerate((10, 200_000))]
    async with open_s3(settings, dial_directly, marks) as blobs:

        async def sweep() -> None:
            nonlocal removed
            while True:
                for digest in await blobs.old(time.time() + 100):
                    await blobs.remove(digest, time.time() + 100)
                    removed += 1

        async def write(content: bytes) -> None:
            rounds = itertools.count()
            # At least so often, and until a sweeper has come between.
            while next(rounds) < 12 or not removed:
                digest = await store(blobs, content)
                named.add(digest)
                assert await read(blobs, digest) == content
                named.discard(digest)
                marks._used.pop(digest, None)

        async with trio.open_nursery() as sweepers:
            sweepers.start_soon(sweep)
            sweepers.start_soon(sweep)
            async with trio.open_nursery() as writers:
                for content in contents:
                    writers.start_soon(write, content)
            sweepers.cancel_scope.cancel()


class TestLocalMarks:
    async def test_a_marked_blob_is_not_removed_for_the_grace(self, autojump_clock: trio.testing.MockClock) -> None:
        marks = LocalMarks(nothing_is_named, 600.0)
        await marks.use("a")
        await trio.sleep(599)
        assert not await marks.begin_removal("a")
        await trio.sleep(2)
        assert await marks.begin_removal("a")
        assert not await marks.begin_removal("a")
        await marks.end_removal("a")
        assert (marks._used, marks._removals) == ({}, {})

    async def test_who_wants_it_waits_for_a_removal_that_has_begun(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        marks = LocalMarks(nothing_is_named, 600.0)
        assert await marks.begin_removal("a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(marks.use, "a")
            await trio.testing.wait_all_tasks_blocked()
            assert "a" not in marks._used
            await marks.end_removal("a")
        assert not await marks.begin_removal("a")

    async def test_a_removal_whose_end_nobody_tells_runs_out(self, autojump_clock: trio.testing.MockClock) -> None:
        marks = LocalMarks(nothing_is_named, 600.0)
        assert await marks.begin_removal("a")
        await marks.use("a")
        assert "a" in marks._used
        assert await marks.begin_removal("b")
        await trio.sleep(1000)
        assert await marks.begin_removal("b")

    async def test_what_is_named_or_asked_about_in_vain_is_not_removed(self) -> None:
        async def all_named(digests: Sequence[str]) -> list[str]:
            return []

        async def broken(digests: Sequence[str]) -> list[str]:
            raise OSError("broken")

        assert not await LocalMarks(all_named, 0.0).begin_removal("a")
        marks = LocalMarks(broken, 0.0)
        with pytest.raises(OSError, match="broken"):
            await marks.begin_removal("a")
        assert marks._removals == {}


MEASURED = """
import hashlib, resource, sys, trio, msgspec
from supervisor.connector.dialling import dial_directly
from supervisor.settings.fleet import S3Settings
from supervisor.store.marks import LocalMarks
from supervisor.store.s3 import open_s3
async def named(digests): return []
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
async def main():
    settings = msgspec.json.decode(sys.argv[1], type=S3Settings)
    async with open_s3(settings, dial_directly, LocalMarks(named, 600.0)) as blobs:
        before, piece = peak(), bytes(1 << 20)
        async with blobs.writer() as writer:
            for _ in range(96): await writer.write(piece)
            digest, size = await writer.commit()
        up = peak()
        seen = hashlib.sha256()
        async with blobs.open(digest) as chunks:
            async for chunk in chunks: seen.update(chunk)
        assert (size, seen.hexdigest()) == (96 << 20, digest)
        print(before, up, peak())
trio.run(main)
"""


async def test_a_long_blob_takes_the_memory_of_a_few_parts(s3_server: S3Server) -> None:
    settings = msgspec.json.encode(s3_server.settings(s3_server.new_bucket())).decode()
    command = [sys.executable, "-c", MEASURED, settings]
    done = await trio.run_process(command, capture_stdout=True)
    before, up, down = map(int, done.stdout.split())
    assert up - before < 60
    assert down - before < 60
