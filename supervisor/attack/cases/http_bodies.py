"""Group H, bodies and paths: JSON and forms of every kind, and paths that lead away."""

from __future__ import annotations

from typing import Final

from supervisor.attack.case import Broken, Collection
from supervisor.attack.cases.http import exchange, head_of, resident, served, status_of
from supervisor.attack.target import Target

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_OURS: Final = "Report it with the JSON of this run: this is a fault of Gaoler's own."
_MAY_GROW: Final = 64 << 20


_JSON: Final[dict[str, bytes]] = {
    "depth 100 000": b'{"lang":"py","code":"1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a million digits": b'{"lang":"none","code":"1","timeout":' + b"9" * 1_000_000 + b"}",
    "NaN": b'{"lang":"py","code":"1","timeout":NaN}',
    "1e999": b'{"lang":"py","code":"1","timeout":1e999}',
    "one key again and again": b'{"lang":"none","code":"1"' + b',"lang":"none"' * 50_000 + b"}",
    "UTF-16": '{"lang":"py","code":"1"}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"lang":"py","code":"1"}',
    "bytes that are no UTF-8": b'{"lang":"py","code":"\xff"}',
    "half a surrogate": b'{"lang":"py","code":"\\ud800"}',
    "a NUL in the program": b'{"lang":"py","code":"a\\u0000"}',
    "lists that do not end": b"[" * 1_000_000,
    "a million files": b'{"lang":"py","code":"1","files":[' + b"{}," * 1_000_000 + b"{}]}",
    "nothing": b"",
}


@_case(
    "H3",
    "JSON bombs",
    promise="JSON of every kind is refused with 400; the daemon's memory stays flat.",
    meaning="One request takes the daemon's memory or processor, or its answer tells what is inside.",
    mend="Lower http.body_bytes; report it.",
)
async def json_bombs(target: Target) -> str:
    """Send each to the routes that read JSON."""
    before = resident(target)
    for path in ("/v1/exec", "/v1/exec/programmatic"):
        for name, body in _JSON.items():
            answer = await target.request("POST", path, body, {"Content-Type": "application/json"})
            if answer.status not in (400, 413):
                raise Broken(f"{name} at {path}: {answer.status} {answer.body[:100]!r}")
    await served(target)
    grown = resident(target) - before
    if grown > _MAY_GROW:
        raise Broken(f"the daemon has grown by {grown >> 20} MiB")
    return f"{2 * len(_JSON)} bodies were refused"


_FIELD: Final = b'--b\r\nContent-Disposition: form-data; name="'
_PART: Final = b'--b\r\nContent-Disposition: form-data; name="file"; '


def _forms() -> dict[str, tuple[str, bytes]]:
    ordinary = "multipart/form-data; boundary=b"
    named = {
        f"the name {name}": (ordinary, _PART + name.encode() + b"\r\n\r\nx\r\n--b--\r\n")
        for name in (
            "filename*=UTF-8''..%2f..%2fetc%2fpasswd",
            "filename*=UTF-8''%00",
            "filename*=UTF-8''a%0d%0aX-Y:%20z",
            'filename=".."',
            'filename="/etc/passwd"',
            'filename="' + "x" * 5000 + '"',
            'filename="a\x1bb"',
        )
    }
    return {
        "no boundary": ("multipart/form-data", b"--b--\r\n"),
        "a huge boundary": (f"multipart/form-data; boundary={'b' * 5000}", b"--b--\r\n"),
        "a hundred thousand parts": (ordinary, (_FIELD + b'a"\r\n\r\nb\r\n') * 100_000),
        "a field's name of eight megabytes": (ordinary, _FIELD + bytes(8 << 20)),
        "a field of eight megabytes": (ordinary, _FIELD + b'a"\r\n\r\n' + b"x" * (8 << 20)),
        "headers of a part that do not end": (ordinary, b"--b\r\n" + b"X: y\r\n" * 1_000_000),
        "an upload that is cut off": (ordinary, _PART + b'filename="cut"\r\n\r\n' + b"x" * 1_000_000),
        **named,
    }


@_case(
    "H4",
    "forms",
    promise="Forms of every kind are refused with a reason; nothing of them is kept, and memory stays flat.",
    meaning="An upload takes the daemon's memory, or writes where it may not.",
    mend=_OURS,
)
async def forms(target: Target) -> str:
    """Send each to both routes."""
    before = resident(target)
    for name, (kind, body) in _forms().items():
        answer = await target.request("POST", "/v1/upload", body, {"Content-Type": kind})
        if answer.status not in (400, 413):
            raise Broken(f"{name}: {answer.status} {answer.body[:100]!r}")
    await served(target)
    grown = resident(target) - before
    if grown > _MAY_GROW:
        raise Broken(f"the daemon has grown by {grown >> 20} MiB")
    return f"{len(_forms())} forms were refused"


_PATHS: Final = (
    "/../../etc/passwd", "//exec", "/%2e%2e/%2e%2e/etc/passwd", "/v1/download/..%2f..%2fx/y", "/v1/download/%00/%00",
    "/v1/files/%c0%ae%c0%ae%c0%af", "/v1/files/..%5c..%5c", "/v1/sessions/x/files/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v1/sessions/x/files//etc/passwd", "/v1/sessions/x/files/a%00b", "/v1/files/" + "x" * 8000, "/%", "/shared/%00/x",
    "/v1/files/a%0d%0aSet-Cookie:x", "/mcp/../v1/admin/egress",
)  # fmt: skip


@_case(
    "H4",
    "paths that lead away",
    promise="A path leads to a route or nowhere; never out of it, never to a fault of the server.",
    meaning="A caller reads files of the host, or routes that he may not.",
    mend=_OURS,
)
async def paths(target: Target) -> str:
    """Ask for each, in bytes."""
    for path in _PATHS:
        answer = await exchange(target, head_of(target, "GET", path, "Connection: close\r\n\r\n"))
        if status_of(answer) not in (200, 400, 403, 404, 405, 406, 414, 421, 429) or b"root:" in answer:
            raise Broken(f"{path[:60]}: {answer[:80]!r}")
        if status_of(answer) == 200 and not answer.endswith(b"[]"):
            raise Broken(f"{path[:60]} leads to {answer[-80:]!r}")
    return f"{len(_PATHS)} paths lead nowhere"
