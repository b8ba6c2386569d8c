"""What ``gaoler doctor`` says of files that are read at start or later, and of the receiver of spans. All is tried.

What the daemon reads again while it serves it reads as its own user, in a view that has the files' directories and
nothing around them: so directories above them need not be open to it.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import h11

from supervisor.connector.dialling import dial_directly
from supervisor.doctor.host import Finding
from supervisor.errors import ConfigurationError
from supervisor.identity.oauth import load_oauth_keys
from supervisor.preparation.prepare import read_token_keys
from supervisor.serving.tls import TlsFiles, hops, shown_directories, tls_files
from supervisor.settings.tree import Settings
from supervisor.tracing.delivery import Receiver, receiver_of
from supervisor.tracing.otlp import CONTENT_TYPE

SOON: Final = timedelta(days=14)
_NO_SPANS: Final = b""
"""A delivery without any: of a message whose fields are all empty nothing is written."""
_LATER: Final = frozenset({429, 502, 503, 504})
_MOST_SAID: Final = 1000


def examine_operation(settings: Settings) -> Iterator[Finding]:
    """Try what the settings name; nothing where they name nothing. It leaves nothing behind."""
    yield from _certificate(settings)
    yield from _token_keys(settings)
    if settings.tracing.url:
        yield _tracing(settings)


def _certificate(settings: Settings) -> Iterator[Finding]:
    files = tls_files(settings)
    if files is None:
        return
    try:
        files.read()
        shown_directories(settings)
    except ConfigurationError as error:
        yield Finding("certificate", "fail", error.message, f"mend {error.field}: a start would fail")
        return
    yield _until(files)
    uid = settings.jailer.daemon_uid if os.geteuid() == 0 else os.geteuid()
    reason = why_not_read(files, uid)
    fix = f"let uid {uid} read the file and its directory, or start Gaoler again after each renewal"
    yield Finding(
        "renewed certificate", "note" if reason else "ok", reason or f"would be taken: uid {uid} reads it", fix
    )


def _until(files: TlsFiles) -> Finding:
    fix = "renew it; a daemon that runs takes it within seconds"
    ends = files.ends()
    try:
        left = datetime.fromisoformat(ends) - datetime.now(UTC)
    except ValueError:
        return Finding("certificate", "note", "until when it holds is not known", fix)
    if left < timedelta(0):
        return Finding("certificate", "fail", f"it held until {ends}", fix)
    return Finding("certificate", "note" if left < SOON else "ok", f"holds until {ends}", fix)


def why_not_read(files: TlsFiles, uid: int) -> str:
    """Say why this user could not read the files again, from their directories on; empty: it could.

    Tried by a child that becomes the user, if we are root. Each directory is opened before: as in the daemon's view
    what lies above it does not count.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, _tried_as(files, uid).encode("utf-8", "replace")[:_MOST_SAID])
        finally:
            os._exit(0)
    os.close(writer)
    said = b""
    while piece := os.read(reader, _MOST_SAID):
        said += piece
    os.close(reader)
    os.waitpid(pid, 0)
    return said.decode("utf-8", "replace").removeprefix("ok") if said else "the child that tried it was killed"


def _tried_as(files: TlsFiles, uid: int) -> str:
    opened = [(name, _steps(path)) for name, path in files.paths]
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    for name, steps in opened:
        for number, (directory, path) in enumerate(steps, 1):
            last = number == len(steps)
            flags = os.O_RDONLY | os.O_NONBLOCK if last else os.O_PATH
            try:
                os.close(os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
            except OSError as error:
                return f"{name}: uid {uid} cannot read {path}: {error.strerror}"
    return "ok"


def _steps(path: Path) -> list[tuple[int, Path]]:
    """Give each link on the way and the file, with its directory, opened."""
    return [(os.open(each.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), each) for each in hops(path)]


def _token_keys(settings: Settings) -> Iterator[Finding]:
    try:
        ours = read_token_keys(settings)
        theirs = load_oauth_keys(Path(settings.mcp.oauth_jwks)) if settings.mcp.authorization_server else {}
    except (ConfigurationError, OSError) as error:
        field = getattr(error, "field", None) or "jwt"
        yield Finding("keys of tokens", "fail", str(error), f"mend what {field} names: a start would fail")
        return
    if ours or theirs:
        yield Finding("keys of tokens", "ok", f"{len(ours)} of LibreChat, {len(theirs)} of OAuth")


def _tracing(settings: Settings) -> Finding:
    try:
        receiver = receiver_of(settings.tracing)
    except OSError as error:
        return Finding("tracing", "fail", f"tracing.ca: {error.strerror or error}", "mend tracing.ca")
    return _delivery(receiver)


def _delivery(receiver: Receiver) -> Finding:
    started = time.perf_counter()
    try:
        answer = receiver.post(dial_directly, _NO_SPANS, CONTENT_TYPE)
    except ssl.SSLError as error:
        fix = "set tracing.ca to the authority of the receiver, and tracing.url to the name in its certificate"
        return Finding("tracing", "fail", f"no TLS with it: {error.reason or error}", fix)
    except (OSError, h11.ProtocolError) as error:
        fix = "is the receiver running, does it speak OTLP over HTTP, and is it reachable from this host?"
        return Finding("tracing", "fail", f"it does not answer: {' '.join(str(error).split())[:200]}", fix)
    said = f"status {answer.status}"
    if 200 <= answer.status < 300:
        encrypted = "with TLS" if receiver.tls is not None else "without TLS"
        took = (time.perf_counter() - started) * 1000
        return Finding("tracing", "ok", f"takes spans, answers in {took:.1f} ms, {encrypted}")
    if answer.status in _LATER:
        return Finding("tracing", "note", said, "it cannot take spans now: they are tried again, then lost")
    if answer.status in (401, 403):
        return Finding("tracing", "fail", said, "set tracing.headers to what it believes")
    return Finding("tracing", "fail", said, "look at the path of tracing.url: usually it is /v1/traces")
