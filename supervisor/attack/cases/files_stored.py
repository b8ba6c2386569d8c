"""Group F: what is stored is what was sent: names that are taken, archives, base64, the same name twice."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import secrets
import tarfile
import zipfile
from functools import partial
from typing import Any, Final

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_tools import Tools, content, listed, new_session, open_tools
from supervisor.attack.target import Caller, Target, together
from supervisor.attack.wire import Answer

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case


async def upload_into(
    target: Target, session: str, *files: tuple[str, bytes], caller: Caller | None = None, user: str | None = None
) -> Answer:
    """Upload into a session that is there, whatever the answer is; ``caller`` and ``user`` as of a request."""
    boundary = "gaoler-attack-boundary"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    body = [*parts, f"--{boundary}--\r\n".encode()]
    return await target.request("POST", f"/v1/sessions/{session}/files", body, headers, caller=caller, user=user)


_CROWDED: Final = (
    (("a", "a/b"), ()),
    (("a/b", "a"), ()),
    (("a",), ("a/b",)),
    (("a/b",), ("a",)),
    (("a/b/c",), ("a/b",)),
    (("a",), ("a/b/c/d",)),
)


@_case(
    "F10",
    "names that are taken",
    promise="A file takes no directory's place and lies below no file: it is refused, and the session goes on.",
    meaning="One upload makes a session of somebody unusable, or a file is lost without a word.",
    mend="Delete the session that is named; report it with the JSON of this run.",
)
async def taken_names(target: Target) -> str:
    """Upload both, at once and one after the other; what is refused is refused whole, what is kept can be used."""
    target.need_language("python")
    for together_, later in _CROWDED:
        answer = await target.upload(*((name, b"x") for name in together_))
        kept = set(together_) if answer.status == 200 else set()
        what = f"{together_} then {later}"
        if later:
            session = answer.json["session_id"]
            answer = await upload_into(target, session, *((name, b"x") for name in later))
            kept |= set(later) if answer.status < 300 else set()
        if answer.status >= 500:
            raise Broken(f"{what}: {answer.status} {answer.body[:100]!r}")
        if not kept:
            continue
        session = answer.json["session_id"] if not later else session
        if set(await listed(target, session)) != kept:
            raise Broken(f"{what}: the session has {sorted(await listed(target, session))}")
        used = await target.try_execute("print(open('a') if 0 else 'used')", session_id=session)
        if used.status != 200 or used.json["stdout"] != "used\n":
            raise Broken(f"{what}: the session cannot be used any more: {used.status} {used.body[:200]!r}")
    return f"{len(_CROWDED)} ways"


_LINKED: Final = """
import os
os.makedirs("/tmp/outside", exist_ok=True)
with open("/tmp/outside/file", "w") as file:
    file.write("as it was")
os.chdir("/mnt/data")
os.symlink("/tmp/outside", "directory")
os.symlink("/tmp/outside/file", "file")
os.symlink("/tmp/outside/made", "made")
os.mkfifo("pipe")
print("READY")
"""
_LOOKING: Final = "import os; print(sorted(os.listdir('/tmp/outside')), open('/tmp/outside/file').read())"


@_case(
    "F10",
    "uploads onto links",
    promise="A link or pipe that waits at the name of an upload is never followed, and holds nobody.",
    meaning="Code in a sandbox has files of other people written to a place of its choice.",
    mend='Report it with the JSON of this run; until it is mended use no lasting sessions (state = "never").',
)
async def uploads_onto_links(target: Target) -> str:
    """Make links in a lasting sandbox, upload onto and below them, run again."""
    target.need_language("python")
    session = await new_session(target, ("own.txt", b"own"))
    result = await target.execute(_LINKED, session_id=session, stateful=True)
    if result["stdout"] != "READY\n":
        raise Broken(f"the program did not get so far: {result['stderr'][-200:]!r}")
    replaced = 0
    for name in ("directory/evil", "file", "made", "directory", "pipe"):
        answer = await upload_into(target, session, (name, b"from outside"))
        if answer.status >= 500:
            raise Broken(f"an upload of {name} is answered with {answer.status}")
        ran = await target.try_execute(_LOOKING, session_id=session, stateful=True)
        if ran.status == 200 and ran.json["stdout"] != "['file'] as it was\n":
            raise Broken(
                f"an upload of {name} went through a link: {ran.json['stdout']!r} {ran.json['stderr'][-100:]!r}"
            )
        if ran.status not in (200, 400):
            raise Broken(f"after an upload of {name} the session answers {ran.status} {ran.body[:200]!r}")
        replaced += ran.status == 200
        for name_, row in (await listed(target, session)).items():
            if name_ == name:
                await target.request("DELETE", f"/v1/files/{session}/{row['id']}")
    ran = await target.try_execute(_LOOKING, session_id=session, stateful=True)
    if ran.status != 200 or ran.json["stdout"] != "['file'] as it was\n":
        raise Broken(f"at last the session answers {ran.status} {ran.body[:200]!r}")
    return f"{replaced} replaced, {5 - replaced} refused"


def _archives() -> dict[str, bytes]:
    """Archives that do harm when they are unpacked, or even listed."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("../../../../tmp/evil", "/tmp/evil", "n" * 5000, "evil"):
            archive.addfile(tarfile.TarInfo(name))
        for kind, name, link in (
            (tarfile.SYMTYPE, "way", "/tmp"),
            (tarfile.REGTYPE, "way/evil", ""),
            (tarfile.LNKTYPE, "hard", "../../../../etc/passwd"),
            (tarfile.CHRTYPE, "device", ""),
            (tarfile.FIFOTYPE, "pipe", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, link, 0o6777
            archive.addfile(member)
    huge = tarfile.TarInfo("huge")
    huge.size = (4 << 30) + 1
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("../../../../tmp/evil", "/tmp/evil", "C:\\evil", "a\0b"):
            file.writestr(name, b"x")
        file.writestr("bomb", bytes(32 << 20))
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w", zipfile.ZIP_DEFLATED) as file:
        for number in range(16):
            file.writestr(f"{number}.zip", zipped.getvalue())
    return {
        "evil.tar": tar.getvalue(),
        "evil.tar.gz": gzip.compress(tar.getvalue() + bytes(32 << 20), 1),
        "huge.tar": huge.tobuf(tarfile.GNU_FORMAT) + b"x" * 100,
        "evil.zip": zipped.getvalue(),
        "evil.docx": nested.getvalue(),
        "evil.whl": nested.getvalue(),
        "evil.gpk": secrets.token_bytes(4096),
    }


_WALKING: Final = """
import hashlib, os
for top, _, names in os.walk("/mnt/data"):
    for name in names:
        path = os.path.join(top, name)
        print(os.path.relpath(path, "/mnt/data"), hashlib.sha256(open(path, "rb").read()).hexdigest())
print("tmp", len(os.listdir("/tmp")))
"""


@_case(
    "F11",
    "archives",
    promise="An archive is a file like any other: stored byte for byte, unpacked by nobody but the code of its owner.",
    meaning="Who uploads an archive writes outside of his session, or fills memory and disk with a small file.",
    mend="Report it with the JSON of this run; until it is mended refuse uploads of archives in front of Gaoler.",
)
async def archives(target: Target) -> str:
    """Store them over three doors; compare what is listed, what comes back, and what a program sees."""
    target.need_language("python")
    given = _archives()
    session = await new_session(target, *given.items())
    try:
        async with open_tools(target) as tools:
            encoded = base64.b64encode(given["evil.zip"]).decode()
            await tools.call("write_file", session=session, path="by_tool.zip", base64=encoded)
            given["by_tool.zip"] = given["evil.zip"]
    except Untried:
        pass  # two doors are enough
    rows = await listed(target, session)
    if set(rows) != set(given):
        raise Broken(f"the session has the files {sorted(rows)}, given were {sorted(given)}")
    for name, data in given.items():
        if await content(target, session, rows[name]["id"]) != data:
            raise Broken(f"{name} does not come back as it was sent")
    answer = await target.request("GET", f"/v1/file/{session}/{rows['evil.tar']['id']}/content")
    if answer.status != 200 or base64.b64decode(answer.json["content"]) != given["evil.tar"]:
        raise Broken("evil.tar does not come back in base64 as it was sent")
    result = await target.execute(_WALKING, session_id=session)
    seen = dict(line.split(" ") for line in result["stdout"].splitlines() if not line.startswith("tmp "))
    if seen != {name: hashlib.sha256(data).hexdigest() for name, data in given.items()}:
        raise Broken(f"a program finds {sorted(seen)} in the workspace, given were {sorted(given)}")
    if await listed(target, session) != rows:
        raise Broken("a program that only reads has changed the session")
    return f"{len(given)} archives, {sum(map(len, given.values())) >> 10} KiB"


_ENCODED: Final[dict[str, tuple[str, bytes | None]]] = {
    "plain": ("QUJD", b"ABC"),
    "missing padding": ("QUI", b"AB"),
    "white space": (" QU\tJD\r\n", b"ABC"),
    "nothing": ("", b""),
    "a bad alphabet": ("QUJ*", None),
    "the alphabet of URLs": ("-_-_", None),
    "padding only": ("====", None),
    "padding in the middle": ("QQ==QQ==", None),
    "too much padding": ("QUJD====", None),
    "one character too many": ("QUJDR", None),
    "letters beyond ASCII": ("QUJD\u0410", None),
    "a NUL": ("QU\0JD", None),
    "the name of a type in front": ("data:text/plain;base64,QUJD", None),
}
"""What is sent, and the one content that may be stored; ``None``: it has to be refused."""


@_case(
    "F14",
    "base64",
    promise="Base64 that is none is refused, and what is taken is decoded exactly; the same for credentials in base64.",
    meaning="Two who read the same text store different files: what was checked is not what is run.",
    mend="Report it with the JSON of this run; until it is mended upload over HTTP.",
)
async def bad_base64(target: Target) -> str:
    """Send every kind to the tools that take it; then very much; then as credentials."""
    async with open_tools(target) as tools:
        for what, (encoded, wanted) in _ENCODED.items():
            await _try_encoded(tools, what, encoded, wanted)
        many = await tools.try_call("write_file", path="many", base64="A" * (20 << 20))
        if many.refusal is None and many.data["file"]["size"] != 15 << 20:
            raise Broken(f"of 20 MiB of base64 a file of {many.data['file']['size']} bytes was stored")
        bad = [{"path": "one", "base64": "QUJD"}, {"path": "two", "base64": "-_-_"}]
        if (await tools.try_call("execute_code", code="1", files=bad)).refusal is None:
            raise Broken("execute_code takes an input that is no base64")
    bad_credentials = ("Basic !!!!", "Basic ====", "Basic " + "QUFB" * 4096, "Basic QUFB QUFB")
    for credential in bad_credentials:
        answer = await target.request("GET", "/v1/files/x", headers={"Authorization": credential}, anonymous=True)
        if answer.status not in (400, 401, 429):
            raise Broken(f"the credential {credential[:20]!r} is answered with {answer.status}")
    for user in ("b64:!!!!", "b64:" + base64.b64encode(b"a\nb").decode(), "b64:/w=="):
        answer = await target.request("GET", "/v1/files/x", headers={"X-User-Id": user}, user="")
        if answer.status != 400:
            raise Broken(f"the user {user!r} is answered with {answer.status}")
    return f"{len(_ENCODED)} kinds"


async def _try_encoded(tools: Tools, what: str, encoded: str, wanted: bytes | None) -> None:
    await tools.try_call("delete_file", path="encoded")
    outcome = await tools.try_call("write_file", path="encoded", base64=encoded)
    read = await tools.try_call("read_file", path="encoded", encoding="base64")
    if outcome.refusal is not None:
        if wanted is not None and what == "plain":
            raise Broken(f"ordinary base64 is refused: {outcome.refusal[:200]}")
        if read.refusal is None:
            raise Broken(f"{what}: it is refused, and stored all the same")
        return
    if wanted is None:
        raise Broken(f"{what}: {encoded!r} is taken")
    if read.refusal is not None or base64.b64decode(read.data["content"], validate=True) != wanted:
        raise Broken(f"{what}: {encoded!r} is stored as {read.data.get('content')!r}")


@_case(
    "F15",
    "the same name twice",
    promise="Of two files with one name nothing is lost silently: one upload is refused, a later one replaces whole.",
    meaning="One of two files is lost, or a mixture of both is taken for one of them.",
    mend="Report it with the JSON of this run; give files different names.",
)
async def same_name_twice(target: Target) -> str:
    """In one upload, in a batch, in two, in sixteen at once, and among the inputs of an execution."""
    target.need_language("python")
    answer = await target.upload(("a", b"1"), ("a", b"2"))
    if not 400 <= answer.status < 500:
        raise Broken(f"two files of one name in one upload are answered with {answer.status}")
    session = await new_session(target, ("a", b"first"), ("b", b"other"))
    first = (await listed(target, session))["a"]["id"]
    contents = [bytes([65 + number]) * 100_000 for number in range(16)]
    answers = await together(*(partial(upload_into, target, session, ("a", data)) for data in contents))
    if {answer.status for answer in answers} - {201, 429}:
        raise Broken(f"sixteen uploads of one name are answered with {sorted(answer.status for answer in answers)}")
    rows = await listed(target, session)
    if set(rows) != {"a", "b"} or await content(target, session, rows["a"]["id"]) not in contents:
        raise Broken(f"after sixteen uploads of one name the session has {sorted(rows)}, or a mixture")
    if (await target.request("GET", f"/v1/download/{session}/{first}")).status != 404:
        raise Broken("what was replaced can still be downloaded")
    other = await new_session(target, ("x", b"second"))
    file = (await listed(target, other))["x"]["id"]
    files: list[dict[str, Any]] = [
        {"id": rows["a"]["id"], "name": "same", "storage_session_id": session},
        {"id": file, "name": "same", "storage_session_id": other},
    ]
    result = await target.execute("print(len(open('same').read()))", files=files)
    if result["stdout"] != "100000\n" or [row["name"] for row in result["skipped"]] != ["same"]:
        raise Broken(f"of two inputs with one name a program sees {result['stdout']!r}; told is {result['skipped']}")
    return "one upload, 16 at once, two inputs"
