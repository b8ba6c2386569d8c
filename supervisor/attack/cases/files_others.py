"""Group F: what belongs to others is not there, and nothing that one caller sends takes what everybody needs."""

from __future__ import annotations

import secrets
import statistics
import struct
import time
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from supervisor.attack import host
from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_stored import upload_into
from supervisor.attack.cases.files_tools import content, listed, new_session, open_tools
from supervisor.attack.target import Caller, Target, together
from supervisor.attack.wire import Answer

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

SECRET: Final = b"nobody else's"
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def made_up_id() -> str:
    """Give an id of the right form that nobody has."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(21))


_ROUTES: Final = (
    ("GET", "/v1/files/{session}", 200),
    ("GET", "/v1/files/{session}?detail=full", 200),
    ("GET", "/v1/download/{session}/{file}", 404),
    ("HEAD", "/v1/download/{session}/{file}", 404),
    ("GET", "/v1/sessions/{session}/objects/{file}", 404),
    ("GET", "/v1/sessions/{session}", 404),
    ("GET", "/v1/sessions/{session}/files/own.txt", 404),
    ("GET", "/v1/file/{session}/{file}/content", 404),
    ("DELETE", "/v1/files/{session}/{file}", 404),
    ("DELETE", "/v1/sessions/{session}/objects/{file}", 404),
    ("DELETE", "/v1/sessions/{session}", 404),
)
"""Each route that leads to something of somebody, and its answer for what is not there: a listing is empty then."""


@_case(
    "F18",
    "what belongs to others",
    promise="What belongs to another tenant or user is answered like what does not exist, over every route and tool.",
    meaning="Somebody who learns or guesses an id reads, changes or deletes the files of other people.",
    mend="Stop the daemon and report it with the JSON of this run; give each tenant a daemon of its own until then.",
)
async def others(target: Target) -> str:
    """Try each route as a stranger, a colleague and another user, with real ids and with ids that nobody has."""
    target.need_language("python")
    session = await new_session(target, ("own.txt", SECRET))
    rows = await listed(target, session)
    await target.execute("mine = 'nobody else has it'", session_id=session, stateful=True)
    real = {"session": session, "file": str(rows["own.txt"]["id"])}
    other = f"{target.user}-other"
    strangers = ((target.stranger, None), (target.stranger, ""), (target.colleague, other), (target.me, other))
    tried = 0
    for caller, user in strangers:
        for method, route, status in _ROUTES:
            false = {"session": made_up_id(), "file": made_up_id()}
            seen = await target.request(method, route.format(**real), caller=caller, user=user)
            absent = await target.request(method, route.format(**false), caller=caller, user=user)
            _must_be_alike(f"{method} {route} as {caller.name} for {user!r}", seen, absent, status)
        tried += len(_ROUTES) + await _try_bodies(target, real, caller, user)
        tried += await _try_tools(target, real, caller, user)
    if await listed(target, session) != rows or await content(target, session, real["file"]) != SECRET:
        raise Broken("somebody else has changed a session")
    result = await target.execute("print(mine)", session_id=session, stateful=True)
    if result["stdout"] != "nobody else has it\n":
        raise Broken(f"somebody else has ended or changed an interpreter: {result['stderr'][-200:]!r}")
    return f"{tried} ways"


def _must_be_alike(what: str, seen: Answer, absent: Answer, status: int) -> None:
    if SECRET in seen.body:
        raise Broken(f"{what}: the file is given")
    if seen.status != status or (seen.status, seen.body, _shape(seen)) != (absent.status, absent.body, _shape(absent)):
        raise Broken(
            f"{what}: another's is answered with {seen.status} {seen.body[:80]!r}, "
            f"what does not exist with {absent.status} {absent.body[:80]!r}"
        )


def _shape(answer: Answer) -> Mapping[str, str]:
    own = ("date", "x-request-id")
    return {name: value for name, value in answer.headers.items() if name not in own}


async def _try_bodies(target: Target, real: Mapping[str, str], caller: Caller, user: str | None) -> int:
    """Routes whose ids are in the body, or that have one; what another has is 404."""
    reference = {"id": real["file"], "name": "stolen", "storage_session_id": real["session"]}
    reading = "print(open('/mnt/data/own.txt').read())"
    bodies: tuple[tuple[str, dict[str, Any]], ...] = (
        ("/v1/exec", {"lang": "py", "code": reading, "session_id": real["session"]}),
        ("/v1/exec", {"lang": "py", "code": reading, "session_id": real["session"], "stateful": True}),
        ("/v1/exec", {"lang": "py", "code": "print(open('stolen').read())", "files": [reference]}),
        (f"/v1/sessions/{real['session']}/execute", {"code": reading}),
    )
    for path, body in bodies:
        answer = await target.post(path, body, caller=caller, user=user)
        if answer.status != 404 or SECRET in answer.body:
            raise Broken(f"POST {path} as {caller.name} for {user!r}: {answer.status} {answer.body[:80]!r}")
    answer = await upload_into(target, real["session"], ("own.txt", b"forged"), caller=caller, user=user)
    if answer.status != 404:
        raise Broken(f"an upload as {caller.name} for {user!r} is answered with {answer.status}")
    return len(bodies) + 1


async def _try_tools(target: Target, real: Mapping[str, str], caller: Caller, user: str | None) -> int:
    calls: tuple[tuple[str, dict[str, Any]], ...] = (
        ("read_file", {"path": "own.txt"}),
        ("list_files", {}),
        ("write_file", {"path": "own.txt", "text": "forged"}),
        ("delete_file", {"path": "own.txt"}),
        ("search_files", {"pattern": "nobody"}),
        ("execute_code", {"code": "print(mine)"}),
        ("start_process", {"command": "cat own.txt"}),
        ("list_processes", {}),
        ("close_session", {"delete_files": True}),
    )
    try:
        async with open_tools(target, caller=caller, user=user) as tools:
            for tool, arguments in calls:
                outcome = await tools.try_call(tool, session=real["session"], **arguments)
                if outcome.refusal is None or SECRET in outcome.answer.body:
                    raise Broken(f"{tool} as {caller.name} for {user!r} reaches the session of another")
    except Untried:
        return 0
    return len(calls)


_PAIRS: Final = 41
_NOTICED_SECONDS: Final = 0.002
_ONE_SIDED: Final = 0.9


@_case(
    "F18",
    "the time that a refusal takes",
    promise="How long a refusal takes tells nobody whether there is something that another has.",
    meaning="Somebody finds out by the clock which ids exist; some callers have no other protection.",
    mend="Report it with the JSON of this run. It gives no file by itself.",
)
async def refusals_take_alike(target: Target) -> str:
    """Ask in pairs for what another has, 4 MiB of it, and for what does not exist; compare each pair."""
    session = await new_session(target, ("own.txt", secrets.token_bytes(4 << 20)))
    file = (await listed(target, session))["own.txt"]["id"]
    differences = []
    for number in range(_PAIRS):
        paths = [f"/v1/download/{session}/{file}", f"/v1/download/{made_up_id()}/{made_up_id()}"]
        took = {}
        for path in paths if number % 2 else reversed(paths):
            started = time.perf_counter()
            await target.request("GET", path, caller=target.stranger, user="")
            took[path] = time.perf_counter() - started
        differences.append(took[paths[0]] - took[paths[1]])
    middle = statistics.median(differences)
    same = sum(difference > 0 if middle > 0 else difference < 0 for difference in differences)
    if abs(middle) > _NOTICED_SECONDS and same >= _ONE_SIDED * _PAIRS:
        raise Broken(f"what another has takes {middle * 1000:+.1f} ms, in {same} of {_PAIRS} pairs")
    return f"{middle * 1_000_000:+.0f} us in the middle, the same way in {same} of {_PAIRS} pairs"


_SIDE: Final = 100_000


def png_bomb() -> bytes:
    """A whole PNG of 100 000 x 100 000 pixels, one bit each: 1.25 GB of zeros in a megabyte."""
    row_bytes = 1 + _SIDE // 8
    total = row_bytes * _SIDE
    piece = 1 << 20
    squeezer = zlib.compressobj(9)
    first = squeezer.compress(bytes(piece)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush each piece stands for itself, so the same bytes can be put in again and again.
    again = squeezer.compress(bytes(piece)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    last = squeezer.compress(bytes(total % piece)) + squeezer.flush(zlib.Z_FINISH)
    adler = struct.pack(">I", (total % 65_521) << 16 | 1)
    pixels = first + again * (total // piece - 1) + last[:-4] + adler
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


_PICTURES: Final[Mapping[str, bytes]] = {
    "bomb.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="100000" height="100000"><path d="M0 0"/></svg>',
    "bomb.gif": b"GIF89a\xff\xff\xff\xff\xf0\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "bomb.jpg": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\0\xff\xd9",
    "lie.png": b"GIF89a no picture at all",
}
_SHOWING: Final = """
import shutil
from IPython.display import Image, SVG, display
for name in ("bomb.png", "bomb.svg", "bomb.gif", "bomb.jpg", "lie.png"):
    shutil.copy(name, "new_" + name)
display(Image(filename="bomb.png"))
display(SVG(filename="bomb.svg"))
"""
_ALLOWED_BYTES: Final = 128 << 20


@_case(
    "F13",
    "picture bombs",
    promise="A picture of 100 000 x 100 000 pixels is stored and shown within bounds: nobody outside decodes it.",
    meaning="One small upload takes all memory of the host, for whoever looks at it.",
    mend="Report it with the JSON of this run; until it is mended close the MCP door (mcp.enabled = false).",
    place="twin",
)
async def picture_bombs(target: Target) -> str:
    """Store bombs, read them back, and have the tools show them; look at the memory of our own processes."""
    target.need_language("python")
    async with open_tools(target) as tools:
        await tools.call("execute_code", code="import matplotlib.pyplot as plt; plt.plot([1]); plt.show()")
        ours = {"the daemon": target.daemon_pid, "the jailer": target.named("gaoler-jailer")}
        before = {name: _peak_bytes(pid) for name, pid in ours.items()}
        pictures = {"bomb.png": png_bomb(), **_PICTURES}
        session = await new_session(target, *pictures.items())
        for row in (await listed(target, session)).values():
            await content(target, session, row["id"])
            await target.request("GET", f"/v1/file/{session}/{row['id']}/content")
        shown = await tools.try_call("execute_code", session=session, code=_SHOWING)
        if shown.refusal is not None or shown.data["exit_code"] != 0:
            raise Broken(f"a program that shows them fails: {shown.refusal or shown.data['stderr'][-200:]!r}")
        await tools.call("execute_code", session=session, code="print(1)")
    grown = {name: _peak_bytes(pid) - before[name] for name, pid in ours.items()}
    for name, more in grown.items():
        if more > _ALLOWED_BYTES:
            raise Broken(f"{name} needed {more >> 20} MiB more")
    return ", ".join(f"{name} +{more >> 20} MiB" for name, more in grown.items())


def _peak_bytes(pid: int) -> int:
    """Give the most memory that a process has ever had."""
    return int(host.status(pid).get("VmHWM", "0 kB").split()[0]) << 10


_QUOTA_BYTES: Final = 2 << 20
_QUOTA_FILES: Final = 20
_AT_ONCE: Final = 16


@_case(
    "F17",
    "a quota, raced for",
    promise="Sixteen uploads at once, each just within a session's quota, do not pass it together; nor do executions.",
    meaning="One user fills the disk, whatever quotas say.",
    mend="Lower files.file_bytes, raise files.reserve_bytes; report it with the JSON of this run.",
    place="twin",
)
async def raced_quota(target: Target) -> str:
    """Give the twin small quotas and send everything at once; then the twin has its own again."""
    twin = target.twin
    if twin is None:
        raise Untried("it needs a daemon of its own")
    small = {
        "GAOLER_FILES_SESSION_BYTES": str(_QUOTA_BYTES),
        "GAOLER_FILES_FILE_BYTES": str(_QUOTA_BYTES),
        "GAOLER_FILES_FILES_PER_SESSION": str(_QUOTA_FILES),
    }
    await twin.stop()
    try:
        await twin.start(small)
        return await race(target)
    finally:
        if twin.running:
            await target.forget()
            await twin.stop()
        await twin.start()


async def race(target: Target) -> str:
    """Race in a daemon of small quotas."""
    session = await new_session(target, ("own.txt", b"own"))
    large = [(f"large{number}", bytes([number]) * (_QUOTA_BYTES - 4096)) for number in range(_AT_ONCE)]
    answers = await together(*(partial(upload_into, target, session, file) for file in large))
    stored = sum(answer.status == 201 for answer in answers)
    await _must_be_within(target, session)
    many = [[(f"{number}-{index}", b"x") for index in range(4)] for number in range(_AT_ONCE)]
    await together(*(partial(upload_into, target, session, *files) for files in many))
    await _must_be_within(target, session)
    other = await new_session(target, ("own.txt", b"own"))
    if "python" in target.languages:
        code = f"open('NAME', 'wb').write(bytes({_QUOTA_BYTES * 5 // 8}))"
        names = [f"result{number}" for number in range(4)]
        await together(*(partial(target.try_execute, code.replace("NAME", name), session_id=other) for name in names))
        await _must_be_within(target, other)
    if not stored:
        raise Broken(f"of {_AT_ONCE} uploads at once none is stored: {answers[0].status} {answers[0].body[:100]!r}")
    return f"{stored} of {_AT_ONCE} stored"


async def _must_be_within(target: Target, session: str) -> None:
    rows = (await listed(target, session)).values()
    total = sum(row["size"] for row in rows)
    if total > _QUOTA_BYTES or len(rows) > _QUOTA_FILES:
        raise Broken(f"a session of at most {_QUOTA_BYTES} bytes holds {total}, in {len(rows)} files")
