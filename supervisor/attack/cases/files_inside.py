"""Group F from both sides: a sandbox changes its files while somebody outside looks at them."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, Final

import trio

from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.cases.files_tools import (
    Tools,
    content,
    content_unless_gone,
    listed,
    new_session,
    open_slowly,
    open_tools,
)
from supervisor.attack.target import PATIENCE_SECONDS, Target

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case

SWAPS: Final = 100_000
MINE: Final = "written in the sandbox"
DOWNLOADED_BYTES: Final = 16 << 20
"""More than fits into the buffers between us and the daemon."""
_LOOKS: Final = 200
_STARTS: Final = 8
_CHANGING: Final = "Gaoler reads a workspace only while nothing runs in it; if this broke, that is a fault of its own."

_SWAPPING: Final = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/mnt/data")
os.makedirs("d", exist_ok=True)
# As long as the other one, or its length would give the exchange away.
size = os.path.getsize("/usr/lib/os-release") if os.path.exists("/usr/lib/os-release") else 0
for name in ("d/os-release", "f"):
    with open(name, "w") as file:
        file.write("{MINE}".ljust(size))
for name, target in (("link", "/usr/lib"), ("flink", "/usr/lib/os-release")):
    os.symlink(target, name)
def swap(times):
    for _ in range(times):
        for one, other in ((b"d", b"link"), (b"f", b"flink")):
            if libc.renameat2(-100, one, -100, other, 2):
                sys.exit("it cannot swap: " + os.strerror(ctypes.get_errno()))
"""
"""The last argument of renameat2: RENAME_EXCHANGE."""
_PART: Final = SWAPS // 100
_COUNTING: Final = f"for part in range(1, 101):\n    swap({_PART})\n    print(part * {_PART}, flush=True)\n"


@_case(
    "F2",
    "swapped directories, looked at",
    promise="A directory and a link, swapped 100 000 times while results are read, lead the reader nowhere.",
    meaning="Whoever asks for a result is given a file of the host, as the jailer can read it.",
    mend=_CHANGING + " Keep untrusted users away until it is mended, and report it with the JSON of this run.",
    place="twin",
)
async def swapped_while_looked_at(target: Target) -> str:
    """A background process swaps; list and read until it has done its number. One that is killed begins again."""
    target.need_language("python")
    swaps = looks = 0
    async with open_tools(target) as tools:
        await tools.call("write_file", path="swap.py", text=f"{_SWAPPING}{_COUNTING}")
        for _ in range(_STARTS):
            done, looked = await _swap_and_look(target, tools)
            swaps, looks = swaps + done, looks + looked
            if swaps >= SWAPS:
                return f"{swaps} swaps, {looks} looks"
    # A process that does not get to stopping in time is killed, which is another matter.
    raise Untried(f"only {swaps} swaps in {_STARTS} starts: this host is too busy for it")


async def _swap_and_look(target: Target, tools: Tools) -> tuple[int, int]:
    """Start the program and look until it ends; give the swaps that it told of, and how often was looked."""
    started = await tools.call("start_process", command="rm -rf d f link flink; exec python3 swap.py")
    session, process = str(started["session"]), str(started["process"]["process"])
    looks, running, told = 0, True, ""
    while running and looks < _LOOKS:
        seen = await tools.call("read_process", process=process, position=0, wait=0.01)
        running, told = seen["process"]["status"] == "running", str(seen["output"])
        await tools.call("list_files")  # which has the workspace looked at
        await must_be_mine(target, session)
        looks += 1
    if running:
        await tools.call("signal_process", process=process, signal="KILL")
    if "it cannot swap" in told:
        raise Untried(told.strip()[:200])
    return int((told.split() or ["0"])[-1]), looks


async def must_be_mine(target: Target, session: str) -> None:
    """Everything that is kept has been written in the sandbox."""
    for name, row in (await listed(target, session)).items():
        if name == "swap.py":
            continue
        if name not in ("d/os-release", "f", "flink", "link/os-release"):
            raise Broken(f"{name!r} is kept, which nobody has written")
        got = await content_unless_gone(target, session, row["id"])
        if got is not None and got.decode("utf-8", "replace").rstrip() != MINE:
            raise Broken(f"{name} has what is behind a link: {got[:80]!r}")


@_case(
    "F2",
    "swapped directories, at the end",
    promise="What swaps on when its program ends leads the reading of the results nowhere either.",
    meaning="Whoever runs code is given files of the host as results, as the jailer can read them.",
    mend=_CHANGING + " Keep untrusted users away until it is mended, and report it with the JSON of this run.",
)
async def swapped_at_the_end(target: Target) -> str:
    """A child goes on when the program ends, which is when the results are read; with and without a lasting sandbox."""
    target.need_language("python")
    program = f"{_SWAPPING}\nif os.fork() == 0:\n    os.setsid()\n    swap({SWAPS})\n    os._exit(0)\nswap(10)\n"
    for stateful in (False, True) * 4:
        session = await new_session(target, ("swap.py", b"x"))
        fields: dict[str, Any] = {"stateful": True} if stateful else {}
        await target.execute(program, session_id=session, **fields)
        await must_be_mine(target, session)
    return "8 executions"


_LIVES: Final[tuple[dict[str, Any], ...]] = ({}, {"stateful": True})
_REPLACING: Final = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chmod("/mnt/data", 0o755)
with open("/mnt/data/kept.txt", "w") as file:
    file.write("{MINE}")
os.makedirs("/tmp/false", exist_ok=True)
with open("/tmp/false/false.txt", "w") as file:
    file.write("from elsewhere")
for name in ("/tmp/link", "/tmp/link2"):
    if not os.path.islink(name):
        os.symlink("/usr/lib", name)
done = []
def attempt(what, attack):
    try:
        if attack() not in (None, 0):
            return
    except OSError:
        return
    done.append(what)
def exchange(one, other):
    return libc.renameat2(-100, one, -100, other, 2)
attempt("moved away", lambda: os.rename("/mnt/data", "/mnt/other"))
attempt("moved away with its parent", lambda: os.rename("/mnt", "/mnt2"))
attempt("replaced by a link", lambda: os.rename("/tmp/link", "/mnt/data"))
attempt("replaced by a directory", lambda: os.rename("/tmp/false", "/mnt/data"))
attempt("exchanged with a link", lambda: exchange(b"/tmp/link2", b"/mnt/data"))
attempt("exchanged with a directory", lambda: exchange(b"/tmp/false", b"/mnt/data"))
attempt("removed", lambda: os.rmdir("/mnt/data"))
attempt("linked over", lambda: os.symlink("/usr/lib", "/mnt/data"))
attempt("its other name replaced", lambda: os.rename("/tmp/link2", "/workspace"))
attempt("its other name removed", lambda: os.unlink("/workspace"))
print("DONE", *done, sep="; ")
os.chmod("/mnt/data", 0)
"""


@_case(
    "F3",
    "the workspace's root replaced",
    promise="The root of a workspace cannot be replaced from inside; results come from it and from nowhere else.",
    meaning="A sandbox chooses the directory of the host that its results are read from.",
    mend="Compare policies/mounts with the one that was shipped: /mnt/data has to be a mount of its own.",
)
async def replaced_root(target: Target) -> str:
    """Try it in a sandbox of its own and in a lasting one, twice."""
    target.need_language("python")
    for fields in _LIVES:
        session = await new_session(target, ("own.txt", b"own"))
        for again in (False, True):
            result = await target.execute(_REPLACING, session_id=session, **fields)
            said = str(result["stdout"]).strip()
            if said != "DONE":
                raise Broken(f"the root of the workspace: {said[:200]!r} {str(result['stderr'])[:200]!r}")
            names = set(await listed(target, session))
            if names != {"own.txt", "kept.txt"}:
                raise Broken(f"after {'two' if again else 'one'} the session has the files {sorted(names)}")
    return "10 ways, 4 times"


_CHANGES: Final = """
import os
number = 0
print("begun", flush=True)
while True:
    number += 1
    with open("/mnt/data/changing", "r+b" if os.path.exists("/mnt/data/changing") else "wb") as file:
        file.write(bytes([number % 256]) * (number * 7919 % 3_000_000))
        file.flush()
        file.truncate(number * 104729 % 2_000_000)
        file.truncate(number * 15485863 % 4_000_000)
"""


@_case(
    "F6",
    "a file that changes while it is read",
    promise="What is downloaded is one version, whole, of the length and digest that were said, whatever happens.",
    meaning="A result can be forged half and half while somebody reads it, or a reader be held by one without an end.",
    mend=_CHANGING + " Report it with the JSON of this run.",
)
async def changed_while_read(target: Target) -> str:
    """Replace and delete what is half downloaded; then look at a file that a process cuts and extends all the time."""
    target.need_language("python")
    first = hashlib.sha256(secrets.token_bytes(8)).digest() * (DOWNLOADED_BYTES // 32)
    session = await new_session(target, ("big", first))
    row = (await listed(target, session))["big"]
    async with open_slowly(target, f"/v1/download/{session}/{row['id']}") as slow:
        await target.execute("with open('big', 'r+b') as file:\n    file.truncate(10)", session_id=session)
        if (await listed(target, session))["big"]["size"] != 10:
            raise Broken("a result that was cut has its old size")
        await target.request("DELETE", f"/v1/sessions/{session}")
        answer = await slow.rest()
    if answer.body != first or answer.headers.get("content-length") != str(len(first)):
        raise Broken(f"of {len(first)} bytes came {len(answer.body)}, said were {answer.headers.get('content-length')}")
    async with open_tools(target) as tools:
        versions = await _watch_changing(target, tools)
    return f"replaced and deleted in the middle; {versions} versions of a file that never rests"


async def _watch_changing(target: Target, tools: Tools) -> int:
    await tools.call("write_file", path="change.py", text=_CHANGES)
    started = await tools.call("start_process", command="python3 change.py")
    session, process = str(started["session"]), str(started["process"]["process"])
    await tools.call("read_process", process=process, position=0, wait=PATIENCE_SECONDS, until="begun")
    seen: set[str] = set()
    try:
        for _ in range(15):
            entries = (await tools.call("list_files"))["entries"]
            row = (await listed(target, session)).get("changing")
            if row is None:
                continue
            got = await content(target, session, row["id"])
            if (len(got), hashlib.sha256(got).hexdigest()) != (row["size"], row["etag"]):
                raise Broken(f"of a file of {row['size']} bytes came {len(got)}, or others than its digest says")
            seen.add(row["etag"])
            if not any(entry["path"] == "changing" for entry in entries):
                raise Broken("a file that changes all the time is missing in a listing")
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(PATIENCE_SECONDS):
            await tools.try_call("signal_process", process=process, signal="KILL")
    if len(seen) < 2:
        raise Broken(f"a file that changes all the time was seen in {len(seen)} version(s)")
    return len(seen)
