"""Group F at the doors: names, paths and contents that are made to deceive whoever stores or serves them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote, urlsplit

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_tools import listed, new_session, open_tools
from supervisor.attack.target import Target
from supervisor.attack.wire import Answer

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

_BOUNDARY: Final = "gaoler-attack-boundary"
_ABOVE: Final = ("etc/passwd", "data/keys.json")
_SPELLINGS: Final = (
    "../../../../../{}",
    "..%2f..%2f..%2f..%2f..%2f{}",
    "%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/{}",
    "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f{}",
    "%252e%252e%252f%252e%252e%252f%252e%252e%252f{}",
    "..%5c..%5c..%5c{}",
    "....//....//....//....//{}",
    "..;/..;/..;/..;/{}",
    "%c0%ae%c0%ae/%c0%ae%c0%ae/%c0%ae%c0%ae/{}",
    "%c0%af..%c0%af..%c0%af{}",
    "%ef%bc%8f..%ef%bc%8f{}",
    "own.txt/../../../../../{}",
    "own.txt%00/../../{}",
    "/{}",
    "//{}",
    "%2f{}",
    "%2f%2f{}",
    "~root/{}",
    "file:%2f%2f%2f{}",
    "%5c%5c%3f%5cC:%5c{}",
    "mnt%2fdata%2f..%2f..%2f{}",
    "*",
    "own.txt%0d%0aX-Evil:%201",
    "%F0%80%80%AF{}",
)
_ROUTES: Final = (
    ("GET", "/v1/sessions/{session}/files/{game}"),
    ("GET", "/sessions/{session}/files/{game}"),
    ("GET", "/v1/download/{session}/{game}"),
    ("GET", "/v1/download/{game}/{file}"),
    ("GET", "/v1/files/{game}"),
    ("GET", "/v1/file/{session}/{game}/content"),
    ("GET", "/v1/sessions/{session}/objects/{game}"),
    ("DELETE", "/v1/files/{session}/{game}"),
    ("GET", "/v1/shared/{game}/own.txt"),
    ("GET", "/{game}"),
)


@_case(
    "F9",
    "path games",
    promise="No spelling of a path, raw or encoded, leads out of a session over any route, or makes the daemon fail.",
    meaning="Whoever has a key reads files of the daemon: the keys of others, their files, its database.",
    mend="Revoke all keys ('gaoler keys'), stop the daemon, and report it with the JSON of this run.",
    place="twin",
)
async def path_games(target: Target) -> str:
    """Ask every route for what lies above it in every spelling; then the same through the tools."""
    session = await new_session(target, ("own.txt", b"own"))
    file = (await listed(target, session))["own.txt"]["id"]
    await _must_be_served(target, f"/v1/sessions/{session}/files/own.txt")
    await _must_be_served(target, f"/v1/download/{session}/{file}")
    tried = 0
    for method, route in _ROUTES:
        for game in _games():
            path = route.format(session=session, file=file, game=game)
            answer = await target.request(method, path)
            _must_lead_nowhere(f"{method} {path}", answer)
            tried += 1
    tried += await _tool_games(target)
    if set(await listed(target, session)) != {"own.txt"}:
        raise Broken("a path game has changed a session")
    return f"{tried} requests"


def _games() -> Iterator[str]:
    for spelling in _SPELLINGS:
        for above in _ABOVE if "{}" in spelling else ("",):
            yield spelling.format(above)


async def _must_be_served(target: Target, path: str) -> None:
    answer = await target.request("GET", path)
    if (answer.status, answer.body) != (200, b"own"):
        raise Broken(f"an ordinary file is not served at {path}: {answer.status} {answer.body[:80]!r}")


def _must_lead_nowhere(what: str, answer: Answer) -> None:
    empty = answer.status == 200 and answer.body == b"[]"  # the listing of a session that is not there
    elsewhere = urlsplit(answer.headers.get("location", "")).netloc not in ("", "localhost")
    refused = 400 <= answer.status < 500 or (300 <= answer.status < 400 and not elsewhere)
    if not (empty or refused) or "x-evil" in answer.headers:
        location = answer.headers.get("location")
        raise Broken(f"{what} is answered with {answer.status} {location or ''} {answer.body[:80]!r}")


async def _tool_games(target: Target) -> int:
    """The tools take paths in plain; also what is written has to keep its name or be refused."""
    games = ["../x", "a/../../x", "/etc/passwd", "//etc/passwd", "/mnt/data/../x", "/mnt/database/x"]
    games += ["a\\..\\x", "C:\\x", "x\0y", "x\ny", "x\x1b[2Jy", "\u202egpj.exe", "\ud800", ".", "..", "n" * 300]
    try:
        async with open_tools(target) as tools:
            await tools.call("write_file", path="own.txt", text="own")
            for game in games:
                for tool, more in (("read_file", {}), ("write_file", {"text": "x"}), ("make_directory", {})):
                    outcome = await tools.try_call(tool, path=game, **more)
                    if outcome.refusal is None:
                        raise Broken(f"{tool} takes the path {game!r}")
                moved = await tools.try_call("move_file", source="own.txt", target=game)
                if moved.refusal is None:
                    raise Broken(f"move_file takes the path {game!r}")
            entries = [entry["path"] for entry in (await tools.call("list_files"))["entries"]]
            if entries != ["own.txt"]:
                raise Broken(f"after refusals only there are the files {entries}")
    except Untried:
        return 0
    return 4 * len(games)


def _part(disposition: str, kind: str | None, content: bytes) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; {disposition}\r\n'
    if kind is not None:
        head += f"Content-Type: {kind}\r\n"
    return head.encode("utf-8", "surrogateescape") + b"\r\n" + content + b"\r\n"


async def _send_parts(target: Target, path: str, parts: Sequence[bytes]) -> Answer:
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    answer = await target.request("POST", path, [*parts, f"--{_BOUNDARY}--\r\n".encode()], headers)
    if answer.status == 200 and answer.json.get("session_id"):
        target.sessions[answer.json["session_id"]] = (target.me, target.user)
    return answer


_REFUSED_NAMES: Final = (
    "..", ".", "../x", "a/../x", "/etc/passwd", "a//b", "a\\b", "C:x", "x\ty", "x\x1b[2Jy", "x\x7fy", "x\u2028y",
    "\u202egpj.exe", "n" * 257, "\u00e9" * 200, "/".join("abcdefghijk"), "a/",
)  # fmt: skip
_KEPT_NAMES: Final = (
    "-rf", " leading", "%2e%2e%2fx", "CON", "caf\u00e9.txt", "cafe\u0301.txt", "UPPER.txt", "upper.txt", "~root", "*",
    "a;b", "a'b", "$(id)", "`id`", "a&b", "...", "{{7*7}}", "<b>", "a=b", "\u6587\u4ef6.csv",
)  # fmt: skip


@_case(
    "F8",
    "names of uploads",
    promise="A name that could deceive is refused, by itself and with a reason; any other is kept exactly.",
    meaning="Somebody is shown a file under another name than it has, or one file takes the place of another.",
    mend="Report it with the JSON of this run; until then do not show names of files to people.",
)
async def names_of_uploads(target: Target) -> str:
    """Upload all of them at once; each is judged by itself."""
    names = [*_REFUSED_NAMES, *_KEPT_NAMES]
    quoted = [name.replace("\\", "\\\\").replace('"', '\\"') for name in names]
    parts = [_part(f'filename="{name}"', None, b"x") for name in quoted]
    parts += [_part("filename*=UTF-8''" + name, None, b"x") for name in ("a%0d%0ab", "a%00b", "..%2f..%2fx")]
    raw = await _send_parts(target, "/v1/upload", [_part('filename="\udcff.txt"', None, b"x")])
    if not 400 <= raw.status < 500:
        raise Broken(f"a name that is no UTF-8 is answered with {raw.status}")
    answer = await _send_parts(target, "/v1/upload/batch", parts)
    if answer.status != 200:
        raise Broken(f"a batch of uploads is answered with {answer.status}: {answer.body[:200]!r}")
    stored = {row["filename"] for row in answer.json["files"] if row["status"] == "success"}
    if stored != set(_KEPT_NAMES):
        raise Broken(f"stored and not expected: {stored - set(_KEPT_NAMES)}; missing: {set(_KEPT_NAMES) - stored}")
    found = set(await listed(target, answer.json["session_id"]))
    if found != stored:
        raise Broken(f"what was called {sorted(stored - found)} is listed as {sorted(found - stored)}")
    return f"{len(parts) - len(stored)} refused, {len(stored)} kept"


_DECEITS: Final = (
    ('filename="evil.html"', "text/html"),
    ('filename="evil.svg"', "image/svg+xml"),
    ('filename="evil.xhtml"', "application/xhtml+xml; charset=utf-7"),
    ('filename="evil.js"', "text/javascript"),
    ('filename="a\\"; filename=\\"evil.html"', "text/plain"),
    ("filename=\"a.txt; filename*=UTF-8''evil.html\"", "text/plain\r\n X-Evil: 1"),
    ("filename*=UTF-8''evil%22%3B%20x=%22.html", 'text/html; x="'),
    ('filename="\u00e9\u6587,; =.html"', "text/html, X-Evil: 1"),
    ('filename="%0d%0aX-Evil: 1.html"', "TEXT/HTML"),
)
_ATTACHMENT: Final = re.compile(r"attachment(; filename\*?=(\"[^\"\\]*\"|[A-Za-z0-9'%._~!#$&+^`|-]+))*")


@_case(
    "F12",
    "pages and headers",
    promise="Files are served to be saved: no name or type of theirs adds a header, and none runs as a page of ours.",
    meaning="A file that somebody opens by a link runs as a page of your chat's host, with its cookies.",
    mend="Serve Gaoler under a host name of its own until it is mended; report it with the JSON of this run.",
)
async def pages_and_headers(target: Target) -> str:
    """Store pages under names and types that break out of headers; look at them over every route that serves them."""
    page = b"<script>alert(document.domain)</script>"
    parts = [_part(disposition, kind, page) for disposition, kind in _DECEITS]
    answer = await _send_parts(target, "/v1/upload/batch", parts)
    if answer.status != 200:
        raise Broken(f"a batch of uploads is answered with {answer.status}: {answer.body[:200]!r}")
    session = answer.json["session_id"]
    rows = await listed(target, session)
    paths = [f"/v1/download/{session}/{row['id']}" for row in rows.values()]
    paths += [f"/v1/sessions/{session}/files/{quote(name, safe='')}" for name in rows]
    for path in [*paths, *await _links(target, page)]:
        for method in ("GET", "HEAD") if "/download/" in path else ("GET",):
            answer = await target.request(method, path)
            _must_be_an_attachment(f"{method} {path}", answer, b"" if method == "HEAD" else page)
    return f"{len(rows)} files, {len(paths)} addresses"


async def _links(target: Target, page: bytes) -> list[str]:
    """Give a signed link to a page, as it is given to a person's browser."""
    try:
        async with open_tools(target) as tools:
            await tools.call("write_file", path="page.html", text=page.decode())
            url = str((await tools.call("stat_file", path="page.html"))["file"]["url"])
    except Untried:
        return []
    return [urlsplit(url).path]


def _must_be_an_attachment(what: str, answer: Answer, content: bytes) -> None:
    headers = answer.headers
    faults = [
        fault
        for fault, is_so in (
            (f"status {answer.status}", answer.status != 200),
            (f"the body {answer.body[:80]!r}", answer.body != content),
            ("a header of the uploader's", "x-evil" in headers),
            ("no nosniff", headers.get("x-content-type-options") != "nosniff"),
            ("no sandbox in its policy", "sandbox" not in headers.get("content-security-policy", "")),
            (
                f"Content-Disposition: {headers.get('content-disposition')}",
                not _ATTACHMENT.fullmatch(headers.get("content-disposition", "")),
            ),
        )
        if is_so
    ]
    if faults:
        raise Broken(f"{what}: {'; '.join(faults)}")
