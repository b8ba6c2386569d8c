"""The way to S3: boto3's client in threads, its connections made by a :data:`supervisor.connector.dialling.Dial`.

boto3 is blocking. Every call is a function that is given the client in a thread; when it is cancelled its connection is
shut down, so that the thread ends at once and nothing goes on behind anybody's back. What may succeed another time is
tried again here and not by boto3, because a wait of ours can be cancelled and holds no connection.

Nothing comes from the environment, from files in a home directory or from a cloud's metadata service: what is not in
the settings is not known.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

import boto3.session
import botocore.awsrequest
import botocore.config
import botocore.configprovider
import botocore.exceptions
import botocore.handlers
import botocore.session
import trio
import urllib3.exceptions

from supervisor.connector.dialling import Dial
from supervisor.errors import ConfigurationError, NotFound, StorageFull, StoreUnavailable
from supervisor.metrics.troubles import Troubles
from supervisor.settings.fleet import S3Settings

log: Final = logging.getLogger("gaoler.store")
_T = TypeVar("_T")
Work = Callable[[Any], _T]

PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0

_PASSING: Final = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "IncompleteBody"})
"""Errors that are not the request's fault, beside all of 5xx."""
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"})
_AT_START: Final = {
    "NoSuchBucket": ("s3.bucket", "does not exist"),
    "InvalidAccessKeyId": ("s3.access_key", "is not known to the server"),
    "SignatureDoesNotMatch": ("s3.access_key", "does not go with s3.secret_key, says the server"),
    "AccessDenied": ("s3.access_key", "may not list the bucket"),
    "AuthorizationHeaderMalformed": ("s3.region", "is not the server's"),
    "PermanentRedirect": ("s3.region", "is not the bucket's"),
}
"""What the first question may be answered with by a server that is well: the setting, and what is wrong with it."""

UNAVAILABLE: Final = "the server's file storage does not answer"


class PastEnd(Exception):
    """The object has no byte at or after the one that was asked for."""


class _Call:
    """The socket that a thread's call uses at the moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._aborted = False

    def uses(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
            if self._aborted:
                self._shut()

    def abort(self) -> None:
        """Let the thread's next or present wait end at once."""
        with self._lock:
            self._aborted = True
            self._shut()

    def end(self) -> None:
        """Forget the socket: from now on it may be another call's."""
        with self._lock:
            self._socket = None

    def _shut(self) -> None:
        if self._socket is not None:
            try:
                # Not the method of an SSLSocket: that one takes the TLS session away under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already


_call: Final[ContextVar[_Call | None]] = ContextVar("_call", default=None)


def _dialled(base: Any, dial: Dial, seconds: float, tls: ssl.SSLContext | None) -> Any:
    """Make a connection class of botocore's, ``base``, whose sockets ``dial`` gives and the present call knows."""

    class Dialled(base):  # type: ignore[misc]
        def _new_conn(self) -> socket.socket:
            try:
                connected = dial(self._dns_host, self.port, seconds)
            except TimeoutError as error:
                raise urllib3.exceptions.ConnectTimeoutError(self, "not connected in time") from error
            except OSError as error:
                raise urllib3.exceptions.NewConnectionError(self, f"not connected: {error}") from error
            connected.settimeout(seconds)
            return connected

        def connect(self) -> None:
            if tls is not None:
                # One context for all, with its authorities read once, at start.
                self.ssl_context, self.cert_reqs, self.ca_certs = tls, "CERT_REQUIRED", None
            super().connect()
            self._tell()

        def request(self, *positional: Any, **named: Any) -> Any:
            self._tell()
            return super().request(*positional, **named)

        def _tell(self) -> None:
            call = _call.get()
            if call is not None and self.sock is not None:
                call.uses(self.sock)

    return Dialled


def _use_dial(client: Any, dial: Dial, settings: S3Settings) -> None:
    """Have the client's connections made by ``dial``: the one place that knows botocore from inside."""
    tls = ssl.create_default_context(cafile=settings.ca or None) if settings.url.startswith("https:") else None
    inside = botocore.awsrequest
    plain = _dialled(inside.AWSHTTPConnection, dial, settings.connect_seconds, None)
    secure = _dialled(inside.AWSHTTPSConnection, dial, settings.connect_seconds, tls)
    session = client._endpoint.http_session  # noqa: SLF001
    session._manager.pool_classes_by_scheme = {  # noqa: SLF001
        "http": type("Pool", (inside.AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (inside.AWSHTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def _make_client(settings: S3Settings, dial: Dial) -> Any:
    """Make boto3's client; takes a fifth of a second."""
    inner = botocore.session.Session()
    provided = botocore.configprovider.create_botocore_default_config_mapping(inner)
    defaults = botocore.configprovider.BOTOCORE_DEFAUT_SESSION_VARIABLES
    known = {name: defaults[name][2] if name in defaults else None for name in provided}
    known |= {"config_file": "/dev/null", "credentials_file": "/dev/null"}
    constant = botocore.configprovider.ConstantProvider
    store = botocore.configprovider.ConfigValueStore({name: constant(value) for name, value in known.items()})
    inner.register_component("config_store", store)
    config = botocore.config.Config(
        connect_timeout=settings.connect_seconds,
        read_timeout=settings.read_seconds,
        max_pool_connections=settings.connections,
        retries={"total_max_attempts": 1},
        # Servers that are not Amazon's need not know the newer trailing checksums; the signature covers the content.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={},
        s3={
            "addressing_style": "path" if settings.path_style else "virtual",
            "payload_signing_enabled": True,
        },
    )
    client = boto3.session.Session(botocore_session=inner).client(
        "s3",
        endpoint_url=settings.url,
        region_name=settings.region,
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        aws_session_token=settings.session_token or None,
        config=config,
    )
    # A body is never longer than a part: to ask whether it may come costs more, and a second where nobody answers.
    client.meta.events.unregister("before-call.s3", botocore.handlers.add_expect_header)
    _use_dial(client, dial, settings)
    return client


def code_of(error: Exception) -> tuple[int, str]:
    """Give status and code of an answer that says no; (0, "") if it is none."""
    if not isinstance(error, botocore.exceptions.ClientError):
        return 0, ""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status), str(error.response.get("Error", {}).get("Code", ""))


class S3Client:
    """Use :func:`open_s3_client`."""

    def __init__(self, client: Any, settings: S3Settings) -> None:
        self._client = client
        self.settings = settings
        self._limiter = trio.CapacityLimiter(settings.connections)
        self._refused = False
        self.troubles = Troubles()

    def encryption(self) -> dict[str, str]:
        """Give what a request that makes an object says of how it is to be kept."""
        settings = self.settings
        if not settings.encryption:
            return {}
        key = {"SSEKMSKeyId": settings.kms_key} if settings.kms_key else {}
        return {"ServerSideEncryption": settings.encryption, **key}

    async def call(self, work: Work[_T]) -> _T:
        """Have ``work`` done with the client, in a thread; it has to be fit to be done twice.

        Tried ``s3.attempts`` times in all. Cancelled it ends at once, and may have happened or not.

        Raises:
            NotFound: there is no such object.
            PastEnd: nor such a part of it.
            StorageFull: the server has no room for it.
            StoreUnavailable: no answer, or none that helps.
        """
        why: Exception | None = None
        for attempt in range(self.settings.attempts):
            if attempt:
                self.troubles.retries += 1
                pause = min(LONGEST_PAUSE_SECONDS, PAUSE_SECONDS * 2 ** (attempt - 1))
                await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            try:
                result = await self._once(work)
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
                refusal = self._judge(error)
                if refusal is not None:
                    raise refusal from None
                why = error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                why = error
            else:
                self._refused = False
                return result
        log.warning("S3 does not answer: %s", why)
        self.troubles.given_up += 1
        raise StoreUnavailable(UNAVAILABLE) from None

    async def _once(self, work: Work[_T]) -> _T:
        call, done, token = _Call(), trio.Event(), trio.lowlevel.current_trio_token()

        def run() -> _T:
            _call.set(call)
            try:
                return work(self._client)
            finally:
                call.end()
                token.run_sync_soon(done.set)

        async with self._limiter:
            # The place was taken here, where waiting for it can be cancelled.
            place = trio.CapacityLimiter(1)
            try:
                return await trio.to_thread.run_sync(run, limiter=place, abandon_on_cancel=True)
            except trio.Cancelled:
                call.abort()
                # A thread has the place until it ends; who was cancelled just before has begun none.
                if place.borrowed_tokens:
                    with trio.CancelScope(shield=True):
                        await done.wait()
                raise

    def _judge(self, error: Exception) -> Exception | None:
        """Say what an error is to the caller, ``None``: it may pass."""
        status, code = code_of(error)
        if status == 0 or code in _PASSING:
            return None
        if code in _FULL or status == 507:
            return StorageFull("the server's file storage is full")
        if status >= 500 or status == 429:
            return None
        if status == 416:
            return PastEnd()
        if status == 404 and code != "NoSuchBucket":
            return NotFound("no such file")
        if not self._refused:
            self._refused = True
            log.error("S3 refuses what is asked of it: status=%d code=%s", status, ascii(code))
        return StoreUnavailable("the server's file storage refuses what is asked of it", retry_after_seconds=30.0)

    async def check(self) -> None:
        """Ask for what is in the bucket.

        Raises:
            ConfigurationError: the bucket is absent, or the keys or the region are wrong.
            StoreUnavailable: no answer.
        """
        settings = self.settings

        def look(client: Any) -> Exception | None:
            wrong: Exception
            try:
                client.list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix, MaxKeys=1)
            except botocore.exceptions.ClientError as error:
                if code_of(error)[1] not in _AT_START:
                    raise
                wrong = error
                return wrong
            except botocore.exceptions.SSLError as error:
                if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                    raise
                wrong = error
                return wrong
            return None

        wrong = await self.call(look)
        if isinstance(wrong, botocore.exceptions.SSLError):
            raise ConfigurationError("s3.ca does not vouch for the server's certificate", field="s3.ca")
        if wrong is not None:
            key, what = _AT_START[code_of(wrong)[1]]
            raise ConfigurationError(f"{key} {what}", field=key)


@asynccontextmanager
async def open_s3_client(settings: S3Settings, dial: Dial) -> AsyncIterator[S3Client]:
    """Make the client for the block, and try it.

    Raises:
        ConfigurationError: as :meth:`S3Client.check`; or ``s3.ca`` cannot be read.
        StoreUnavailable: no answer.
    """
    try:
        client = await trio.to_thread.run_sync(_make_client, settings, dial)
    except (OSError, ssl.SSLError):
        raise ConfigurationError("s3.ca cannot be read", field="s3.ca") from None
    try:
        opened = S3Client(client, settings)
        await opened.check()
        yield opened
    finally:
        client.close()
