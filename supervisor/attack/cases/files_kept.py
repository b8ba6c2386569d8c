"""Group F: what is kept and what goes: read-only inputs stay, workspaces are removed, quotas hold together."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from supervisor.attack.case import Broken, Collection
from supervisor.attack.cases.files_tools import listed, new_session
from supervisor.attack.target import Target, eventually

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

_SPOILING: Final = """
import os
os.chdir("/mnt/data")
done = []
def attempt(attack):
    try:
        attack()
    except OSError:
        pass
attempt(lambda: os.chmod("in/input.txt", 0o777))
def write():
    with open("in/input.txt", "r+") as file:
        file.write("forged")
attempt(write)
attempt(lambda: os.truncate("in/input.txt", 0))
attempt(lambda: os.utime("in/input.txt", (0, 0)))
with open("forged", "w") as file:
    file.write("forged")
WAY
"""
_WAYS: Final = {
    "change it": "",
    "rename over it": 'attempt(lambda: os.rename("forged", "in/input.txt"))',
    "delete it": 'attempt(lambda: os.unlink("in/input.txt"))',
    "link to it and write": (
        'attempt(lambda: os.link("in/input.txt", "linked"))\nattempt(lambda: os.truncate("linked", 1))'
    ),
    "replace the directory": (
        'attempt(lambda: os.rename("in", "out"))\nattempt(lambda: os.mkdir("in"))\n'
        'attempt(lambda: os.rename("forged", "in/input.txt"))'
    ),
    "a link in its place": (
        'attempt(lambda: os.unlink("in/input.txt"))\nattempt(lambda: os.symlink("/usr/lib/os-release", "in/input.txt"))'
    ),
}


@_case(
    "F16",
    "read-only inputs",
    promise="A read-only input stays as it was kept, whatever is done to it and its directory inside.",
    meaning="Code that somebody runs changes files that it was only to read: a skill, a shared data set.",
    mend="Restore what was changed from its source; report it with the JSON of this run.",
)
async def read_only_inputs(target: Target) -> str:
    """Try each way, in a sandbox of its own; the kept file and the next sandbox see the original."""
    target.need_language("python")
    original = b"the original"
    for what, way in _WAYS.items():
        answer = await target.upload(("in/input.txt", original), fields={"read_only": "true"})
        if answer.status != 200:
            raise Broken(f"an upload of a read-only file is answered with {answer.status}")
        session = answer.json["session_id"]
        before = (await listed(target, session))["in/input.txt"]
        await target.execute(_SPOILING.replace("WAY", way), session_id=session)
        after = (await listed(target, session)).get("in/input.txt")
        if after is None or (after["id"], after["etag"]) != (before["id"], before["etag"]):
            raise Broken(f"{what}: the kept file is another one now: {after}")
        seen = await target.execute("print(open('in/input.txt').read(), end='')", session_id=session)
        if seen["stdout"] != original.decode():
            raise Broken(f"{what}: the next program reads {seen['stdout'][:80]!r} {seen['stderr'][-200:]!r}")
    return f"{len(_WAYS)} ways"


_OBSTINATE: Final = """
import ctypes, fcntl, os, struct
os.chdir("/mnt/data")
with open("MARK", "w") as file:
    file.write("x")
def attempt(attack):
    try:
        attack()
    except OSError:
        pass
os.mkdir("many")
for number in range(1000):
    open(f"many/{number}", "w").close()
held = [os.open(f"many/{number}", os.O_RDONLY) for number in range(100)]
for number in range(100):
    os.unlink(f"many/{number}")
def immutable(path):
    fd = os.open(path, os.O_RDONLY)
    fcntl.ioctl(fd, 0x40086602, struct.pack("l", 0x10 | 0x20))
attempt(lambda: immutable("MARK"))
attempt(lambda: immutable("many"))
attempt(lambda: os.setxattr("MARK", "user.x", b"x" * 1000))
attempt(lambda: os.setxattr("MARK", "system.posix_acl_access", b"\\2\\0\\0\\0" + b"\\1\\0\\0\\0\\xff\\xff\\xff\\xff"))
os.mkdir("deep")
os.chdir("deep")
attempt(lambda: [(os.mkdir("d"), os.chdir("d")) for _ in range(5000)])
os.chdir("/mnt/data")
os.mkdir("closed")
open("closed/file", "w").close()
for name in ("closed/file", "closed", "many"):
    os.chmod(name, 0)
print("READY")
"""


@_case(
    "F20",
    "what resists the clean-up",
    promise="Deep, closed, immutable, many and still open files keep no workspace from being removed with its sandbox.",
    meaning="A sandbox outlives its end in the memory of the host, or its id is given on with files of another one.",
    mend="Restart the daemon, which frees all workspaces; report it with the JSON of this run.",
)
async def obstinate_files(target: Target) -> str:
    """Find a lasting sandbox's workspace from outside, delete the session, and look again."""
    target.need_language("python")
    mark = f"mark-{secrets.token_hex(8)}"
    session = await new_session(target, ("own.txt", b"own"))
    result = await target.execute(_OBSTINATE.replace("MARK", mark), session_id=session, stateful=True)
    if result["stdout"] != "READY\n":
        raise Broken(f"the program did not get so far: {result['stdout'][:80]!r} {result['stderr'][-200:]!r}")
    if not _workspaces_with(target, mark):
        raise Broken("the workspace of a lasting sandbox cannot be found, so its end could not be seen either")
    answer = await target.request("DELETE", f"/v1/sessions/{session}")
    if answer.status != 200:
        raise Broken(f"the session cannot be deleted: {answer.status} {answer.body[:200]!r}")
    await eventually("a deleted session's workspace is gone", lambda: not _workspaces_with(target, mark))
    once = f"mark-{secrets.token_hex(8)}"
    await target.execute(_OBSTINATE.replace("MARK", once))
    await eventually("the workspace of an execution is gone", lambda: not _workspaces_with(target, once))
    return "a lasting sandbox and one for once"


def _workspaces_with(target: Target, mark: str) -> list[Path]:
    """Find the workspaces that have a file of this name, as the jailer sees them."""
    root = Path(f"/proc/{target.named('gaoler-jailer')}/root/sandbox/workspaces")
    return [path for path in root.glob("*/data") if (path / mark).exists()]
