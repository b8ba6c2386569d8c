"""Where inputs come from: seeds that are kept, a little grammar for each target, and mutations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from supervisor.jailer import protocol
from supervisor.jailer.channels import CLOSE, CREDIT, DATA, MESSAGE
from tests.fuzz.jailer import frame

CORPUS: Final = Path(__file__).resolve().parent.parent / "corpus"
MOST_BYTES: Final = 4096

PARTS: Final = ["a", "b.txt", "..", ".", "", "%2e%2e", "%2f", "\\", "C:", "\0", "\n", "\u202e", "\ud800", "é" * 128, "x" * 256, "~", "*", "CON", " ", "-"]  # fmt: skip
WORDS: Final[list[Any]] = ["py", "bash", "", "x" * 300, "a\0", "é", 0, 1, -1, 1.5, 1e300, 2**63, 2**64, 10**30, True, None, [], {}, [1], {"a": 1}, "A" * 21]  # fmt: skip
FIELDS: Final = ["lang", "language", "code", "args", "files", "session_id", "user_id", "timeout", "stdin", "stateful", "egress", "tools", "tool_results", "continuation_token", "request_id", "call_id", "id", "name", "version", "x"]  # fmt: skip
HEADERS: Final = [b"Host: x", b"Host: y", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: +5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b" folded", b"X: y", b"X : y", b"X:\ty\t", b": y", b"Expect: 100-continue", b"Connection: close", b"X: \x80", b"X: \0"]  # fmt: skip


def _name(rng: Random) -> bytes:
    return "/".join(rng.choice(PARTS) for _ in range(rng.randint(1, 5))).encode("utf-8", "surrogatepass")


def _uri(rng: Random) -> bytes:
    start = rng.choice(["gaoler://session/", "gaoler://", "GAOLER://session/", "http://session/"])
    rest = [
        rng.choice(["A" * 21, "files", "output", "0", "12", "stdout", "shown", "²", *PARTS])
        for _ in range(rng.randint(1, 6))
    ]
    if rng.random() < 0.7:
        rest[:2] = ["A" * 21, rng.choice(["files", "output"])]
    return (start + "/".join(rest) + rng.choice(["", "", "", "?", "#", "?a", "#b"])).encode("utf-8", "surrogatepass")


def _json(rng: Random) -> bytes:
    fields = {name: rng.choice(WORDS) for name in rng.sample(FIELDS, rng.randint(0, 6))}
    if rng.random() < 0.7:
        fields |= {"lang": "py", "code": "1", "request_id": "r", "language": "python"}
    if rng.random() < 0.3:
        fields["files"] = [{"id": rng.choice(WORDS), "name": rng.choice(PARTS), "version": rng.choice(WORDS)}]
    return json.dumps(fields).encode("utf-8", "surrogatepass")


def _plain_form(rng: Random) -> bytes:
    """One that has only one reading."""
    parts = b"".join(
        b'--bound\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
        % (
            rng.choice([b"file", b"kind", b"id"]),
            rng.choice([b"", b'; filename="f.txt"']),
            b"".join(rng.choice([b"abc", b" ", b"Z9"]) for _ in range(rng.randint(0, 60))),
        )
        for _ in range(rng.randint(1, 4))
    )
    return b"bound\n" + parts + b"--bound--\r\n"


def _form(rng: Random) -> bytes:
    if rng.random() < 0.4:
        return _plain_form(rng)
    boundary = rng.choice([b"b", b"b", b"b", b"bb", b"--", b"b.*"])
    parts = []
    for _ in range(rng.randint(0, 4)):
        name = rng.choice([b"a", b"file", b"", b'a\\"b', b"x" * 300])
        filename = rng.choice([b"", b"", b'; filename="f.txt"', b"; filename*=UTF-8''..%2fx", b'; filename=""'])
        more = rng.choice(
            [b"", b"", b"", b"Content-Type: text/csv\r\n", b"X\r\n", b"Content-Transfer-Encoding: base64\r\n"]
        )
        content = rng.choice([b"", b"x", b"content here", b"--b", b"\r\n--", b"\0\xff", b"y" * 300])
        head = b'Content-Disposition: form-data; name="' + name + b'"' + filename + b"\r\n" + more
        parts.append(b"--" + boundary + b"\r\n" + head + b"\r\n" + content + b"\r\n")
    return boundary + b"\n" + b"".join(parts) + b"--" + boundary + rng.choice([b"--\r\n", b"--\r\n", b"--", b""])


def _base64(rng: Random) -> bytes:
    alphabet = b"ABCxyz019+/"
    text = bytes(rng.choice(alphabet) for _ in range(rng.randint(0, 40)))
    return text + rng.choice([b"", b"=", b"==", b"===", b"\n", b" =", b"-", b"_"])


def _head(rng: Random) -> bytes:
    line = rng.choice(
        [
            b"GET /a HTTP/1.1",
            b"POST /a HTTP/1.1",
            b"POST /a HTTP/1.0",
            b"GET a HTTP/1.1",
            b"GET / HTTP/2.0",
            b"G\x7f / HTTP/1.1",
        ]
    )
    headers = rng.sample(HEADERS, rng.randint(0, 4))
    if rng.random() < 0.7:
        headers.insert(0, b"Host: x")
    end = rng.choice([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n"])
    chunks = b"".join(
        rng.choice(
            [
                b"5\r\nhello\r\n",
                b"1;x=y\r\nz\r\n",
                b"0\r\n\r\n",
                b"0\r\nX: y\r\n\r\n",
                b"2\r\nabc\r\n",
                b"-1\r\n",
                b"f" * 21 + b"\r\n",
            ]
        )
        for _ in range(rng.randint(0, 3))
    )
    return end.join([line, *headers, b"", rng.choice([b"", b"hello", b"hello there", chunks, chunks + b"0\r\n\r\n"])])


def _message(rng: Random, union: Sequence[protocol.Message]) -> bytes:
    plain = msgspec.to_builtins(rng.choice(union), builtin_types=(bytes,))
    if rng.random() < 0.6:
        plain[rng.choice([*plain, "x"])] = rng.choice([*WORDS, b"a", b"x" * 5000, 2**40, 2**40 + 1])
    return msgspec.msgpack.encode({key: value for key, value in plain.items() if not _is_huge(value)})


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**64


REQUESTS: Final[list[protocol.Message]] = [
    protocol.OpenJail(policy="default", profile="py"), protocol.PutFile(area="workspace", name=b"a", size=1),
    protocol.PutPackages(size=3), protocol.RemoveFile(name=b"a"), protocol.MakeDirectory(name=b"a/b"),
    protocol.Run(arguments=["/bin/true"], environment={"A": "b"}, seccomp="bash"), protocol.RunScript(environment={"A": "b"}, main="/mnt/data/a.py"),
    protocol.RunCell(environment={"A": "b"}),
    protocol.ToolResults(size=2), protocol.Background(jail=1, arguments=["x"], environment={}, seccomp="bash"), protocol.WriteStdin(data=b"x"),
    protocol.SignalSession(signal=9), protocol.Pause(), protocol.Resume(), protocol.Connect(grant="0" * 32, ports=[1]),
    protocol.Weigh(share=0.5), protocol.Interrupt(), protocol.Save(limit_bytes=4096), protocol.Restore(size=1), protocol.Finish(),
    protocol.Scan(), protocol.GetFile(name=b"a"), protocol.GetPackages(), protocol.GetDisplay(),
]  # fmt: skip
ENDED: Final = protocol.Ended(
    outcome=protocol.RunExited(code=0), wall_seconds=0.1, cpu_seconds=0.1, memory_peak_bytes=1, jail_lives=True
)
MANIFEST: Final = protocol.Manifest(
    entries=[protocol.Entry(b"a", 1, False)], skipped=[protocol.Skip(b"f", "a pipe")], directories=[b"d"],
    truncated=False, packages=protocol.PackageScan(0, False, False),
)  # fmt: skip
ANSWERS: Final[list[protocol.Message]] = [
    protocol.Opened(), protocol.Stored(), protocol.Finished(), protocol.Started(), protocol.Written(size=1),
    protocol.BackgroundEnded(code=0, signal=None), protocol.Output(stream="stdout", data=b"x"), protocol.ToolCalls(size=2),
    ENDED, protocol.Saved(size=2, names=1, untrusted_unsaved=[("a", "b")]), protocol.Restored(names=1), MANIFEST,
    protocol.FileContent(size=2), protocol.Refused(reason="no"), protocol.Fault(reason="lost"),
]  # fmt: skip
STORY: Final[list[tuple[int, bytes]]] = [
    (MESSAGE, protocol.encode(each)) if isinstance(each, protocol.Message) else (DATA, each)
    for each in (
        protocol.Opened(), protocol.Stored(), protocol.Stored(), protocol.Output(stream="stdout", data=b"x"),
        protocol.ToolCalls(size=2), b"[]", ENDED, MANIFEST, protocol.FileContent(size=2), b"{}", protocol.FileContent(size=1),
        b"x", protocol.Saved(size=2, names=0, untrusted_unsaved=[]), b"zz", protocol.Restored(names=0),
    )
]  # fmt: skip
"""What an honest jailer says to all that :func:`tests.fuzz.jailer.check_client` asks."""


def _frames(rng: Random) -> bytes:
    frames = []
    for _ in range(rng.randint(1, 8)):
        number, kind = (
            rng.choice([1, 1, 1, 2, 2, 3, 5, 0, 2**32 - 1]),
            rng.choice([MESSAGE, MESSAGE, MESSAGE, DATA, DATA, CREDIT, CLOSE, 9]),
        )
        payload = rng.choice([b"", b"x", b"\0\0\0\0", b"\0\0\0\1", b"y" * 100]) if kind != CLOSE else b""
        frames.append(frame(number, kind, payload))
    if rng.random() < 0.5:
        frames.insert(0, frame(1, MESSAGE, b"open"))
    return b"".join(frames)


def _lies(rng: Random) -> bytes:
    story = list(STORY)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        place = rng.randrange(len(story))
        lie = rng.choice(
            [
                (MESSAGE, _message(rng, ANSWERS)),
                (DATA, b"x" * rng.randint(0, 9)),
                (CREDIT, b"\0\0\0\1"),
                (CLOSE, b""),
                (MESSAGE, b"\xc1"),
            ]
        )
        story[place : place + rng.randint(0, 2)] = [lie]
    frames = [frame(1, kind, payload) for kind, payload in story]
    frames.append(frame(1, MESSAGE, protocol.encode(protocol.Finished())))
    return b"".join(frames)


GROW: Final[dict[str, Callable[[Random], bytes]]] = {
    "names": _name,
    "paths": _name,
    "uris": _uri,
    "json": _json,
    "forms": _form,
    "base64": _base64,
    "heads": _head,
    "frames": _frames,
    "requests": lambda rng: _message(rng, REQUESTS),
    "answers": lambda rng: _message(rng, ANSWERS),
    "client": _lies,
}


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """Give what is kept of a target, in an order that does not change."""
    return tuple(path.read_bytes() for path in sorted((CORPUS / target).glob("*")))


def mutated(data: bytes, rng: Random) -> bytes:
    """Change a little: cut, double, swap, overwrite."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        start = rng.randint(0, len(found))
        end = min(len(found), start + rng.choice((1, 1, 2, 4, 16)))
        piece = found[start:end]
        match rng.randrange(5):
            case 0:
                del found[start:end]
            case 1:
                found[start:start] = piece * rng.randint(1, 3)
            case 2:
                found[start:end] = rng.choice(
                    (b"", b"\0", b"\xff", b"/", b"..", b"%", b'"', b"\r\n", b"\n", b" ", b"{", b"0", b"\x7f")
                )
            case 3:
                found[start:end] = rng.randbytes(len(piece) or 1)
            case _:
                other = rng.randint(0, len(found))
                found[other:other] = piece
    return bytes(found[:MOST_BYTES])


def fresh(target: str, rng: Random) -> bytes:
    """Make an input: grown, or of the corpus, mutated more often than not."""
    kept = seeds(target)
    data = rng.choice(kept) if kept and rng.random() < 0.3 else GROW[target](rng)[:MOST_BYTES]
    return mutated(data, rng) if rng.random() < 0.5 else data
