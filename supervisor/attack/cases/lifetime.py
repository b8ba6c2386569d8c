"""Group P from outside: what lives on when a client hangs up, a process of ours is killed, or a cell is used again."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from supervisor.attack import host, wire
from supervisor.attack.case import Broken, Collection, Untried
from supervisor.attack.target import PATIENCE_SECONDS, Target, eventually, meanwhile, together
from supervisor.jailer.cgroup_subtree import mount_points, subtree_name

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_GOES_ON: Final = "Programs go on after their answer: they use the host, hold files, and nobody can end them."
_OURS: Final = "Report it with the JSON of this run: this is a fault of Gaoler's own."
_RESTART: Final = "Restart the daemon, which ends and removes everything; report it with the JSON of this run."


def _lives(target: Target, mark: str) -> list[int]:
    """Give the processes of the family whose command line has the mark in it."""
    found = []
    for pid in target.family():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in line:
            found.append(pid)
    return found


def _sleeper(target: Target) -> tuple[str, str]:
    """A program that sleeps under a number of its own, and the number, by which it is seen from the host."""
    target.need_host_view()
    mark = str(random.SystemRandom().randrange(10**9, 10**10))
    return f"exec sleep {mark}", mark


async def hang_up(target: Target, code: str, lang: str, when: trio.Event | float) -> None:
    """Ask for an execution and close the connection at some moment."""
    async with await wire.connect(target.address) as stream:
        headers = {"X-API-Key": target.me.key, "X-User-Id": target.user, "Content-Type": "application/json"}
        body = json.dumps({"lang": lang, "code": code}).encode()
        await wire.send_request(stream, "POST", "/v1/exec", headers, body)
        if isinstance(when, trio.Event):
            await when.wait()
        else:
            await trio.sleep(when)


@_case(
    "P12",
    "the client hangs up",
    promise="A program whose client has gone is killed.",
    meaning=_GOES_ON,
    mend=_OURS,
)
async def client_gone(target: Target) -> None:
    """Start a sleeper, close the connection, look for it."""
    target.need_language("bash")
    code, mark = _sleeper(target)
    gone = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hang_up, target, code, "bash", gone)
        await eventually("the sleeper runs", lambda: bool(_lives(target, mark)))
        gone.set()
    await eventually("the sleeper is dead", lambda: not _lives(target, mark))


@_case(
    "P7",
    "hanging up at every moment",
    promise="Cancelled at any moment, in the middle of being made too, a sandbox leaves nothing.",
    meaning="Whoever hangs up often enough fills the host with half-made sandboxes.",
    mend=_RESTART,
    place="twin",
)
async def cancelled(target: Target) -> str:
    """Hang up sixty times, later each time; then compare what is held with what was."""
    target.need_language("bash")
    before = await at_rest(target)
    code, mark = _sleeper(target)
    for start in range(0, 60, 12):
        moments = [number * 0.004 for number in range(start, start + 12)]
        await together(*(partial(hang_up, target, code, "bash", moment) for moment in moments))
    await eventually("all of them are dead", lambda: not _lives(target, mark))
    after = await at_rest(target)
    grown = {name: (before[name], after[name]) for name in before if after[name] > before[name]}
    if grown:
        raise Broken(f"more is held than before: {grown}")
    return f"60 requests, cancelled between 0 and {59 * 4} ms"


def holdings(target: Target) -> dict[str, int]:
    """Count what could be left."""
    jailer = target.named("gaoler-jailer")
    name = subtree_name(target.state_directory)
    leaves = {leaf.name for mount in mount_points().values() for leaf in (mount / name).glob("jail-*")}
    return {
        "cgroups": len(leaves),
        "mounts of the jailer": len(Path(f"/proc/{jailer}/mountinfo").read_text().splitlines()),
        "descriptors of the jailer": host.descriptors(jailer),
        "descriptors of the daemon": host.descriptors(target.daemon_pid),
        "processes": len(target.family()),
    }


def _made(target: Target, held: Mapping[str, int]) -> bool:
    """Say whether every sandbox that is held has become what it is for; until then its processes are a zygote's."""
    names = Counter(host.process_name(pid) for pid in target.family())
    return target.tier == "microvm" or (names["catatonit"] == held["cgroups"] and names["gaoler-zygote"] <= 1)


async def at_rest(target: Target) -> dict[str, int]:
    """Count when nothing moves any more: waiting cells are made and given back with demand.

    Raises:
        Broken: it does not come to rest.
    """
    seen: list[dict[str, int]] = []
    with trio.move_on_after(60):
        while len(seen) < 6 or any(each != seen[-1] for each in seen[-6:]):
            try:
                held = holdings(target)
                seen = [*seen, held] if _made(target, held) else []
            except OSError:  # of a process that ended between two looks
                seen = []
            await trio.sleep(0.25)
        return seen[-1]
    raise Broken(f"it does not come to rest: {seen[-3:]}")


@_case(
    "P8",
    "the daemon is killed",
    promise="A killed daemon takes everything along, and the next start finds what was kept and nothing else.",
    meaning="After a crash sandboxes run on without a master, or files are lost.",
    mend=_RESTART,
    place="twin",
)
async def daemon_killed(target: Target) -> None:
    """Kill it in the middle of an execution, start it again."""
    target.need_language("bash")
    twin = target.twin
    assert twin is not None
    kept = await target.execute("echo still here > kept.txt", "bash")
    code, mark = _sleeper(target)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_answered_or_cut, target, code)
        await eventually("the sleeper runs", lambda: bool(_lives(target, mark)))
        await twin.stop(signal.SIGKILL)
    await twin.start()
    left = [leaf for mount in mount_points().values() for leaf in (mount / subtree_name(twin.state)).glob("jail-*")]
    alive = {pid for pid in host.processes_of(target.ids) if mark.encode() in _command(pid)}
    if alive:
        raise Broken(f"processes of before the crash still run: {alive}")
    path = f"/v1/download/{kept['session_id']}/{kept['files'][0]['id']}"
    answer = await target.request("GET", path)
    if (answer.status, answer.body) != (200, b"still here\n"):
        raise Broken(f"a file that was kept is answered with {answer.status} {answer.body[:50]!r}")
    if len({leaf.name for leaf in left}) > 12:  # the few that wait at a twin, and those that are being made
        raise Broken(f"{len(left)} cgroups of before are left")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def _answered_or_cut(target: Target, code: str) -> int:
    """Give the status, 0 if the connection was cut."""
    try:
        return (await target.try_execute(code, "bash")).status
    except Broken:
        return 0


@_case(
    "P8",
    "jailer and zygotes are killed",
    promise="When the jailer or a zygote dies, its sandboxes die, their callers are told, and work goes on.",
    meaning="One crash in the machinery would leave sandboxes running, or the service down until somebody looks.",
    mend=_RESTART,
    place="twin",
)
async def machinery_killed(target: Target) -> str:
    """Kill each in the middle of an execution."""
    target.need_language("bash")
    told = []
    for name in ("gaoler-jailer", "gaoler-zygote"):
        code, mark = _sleeper(target)
        statuses: list[int] = []

        async def ask(code: str = code, statuses: list[int] = statuses) -> None:
            statuses.append(await _answered_or_cut(target, code))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await eventually("the sleeper runs", lambda mark=mark: bool(_lives(target, mark)))  # type: ignore[misc]
            os.kill(target.named(name), signal.SIGKILL)
        if statuses != [503]:
            raise Broken(f"{name} killed: the caller is told {statuses}, not 503")
        await eventually(f"{name} killed: the program is dead", lambda mark=mark: not _lives(target, mark))  # type: ignore[misc]
        result = await _execute_again(target)
        if result["stdout"] != "42\n":
            raise Broken(f"{name} killed: the next program prints {result['stdout']!r}")
        told.append(name)
    return ", ".join(told)


async def _execute_again(target: Target) -> dict[str, Any]:
    """Wait until programs run again."""
    deadline = trio.current_time() + PATIENCE_SECONDS
    while trio.current_time() < deadline:
        answer = await target.try_execute("echo 42", "bash")
        if answer.status != 503:
            found: dict[str, Any] = answer.json
            return found
        await trio.sleep(0.1)
    raise Broken("no program runs again")


@_case(
    "P9",
    "a frozen sandbox",
    promise="A sandbox that is frozen from outside still ends at its time limit, and can be killed.",
    meaning="A stuck sandbox holds its place and its memory for ever.",
    mend="cgroup v2 before Linux 5.2 cannot kill what is frozen: update the kernel.",
    place="twin",
)
async def frozen(target: Target) -> None:
    """Freeze the cgroup of a running program."""
    mounts = mount_points()
    if "memory" in mounts or "unified" not in mounts:
        raise Untried("sandboxes are in cgroup v1 here, whose freezer has a hierarchy of its own")
    for limit in (3000, 9000, 27_000):  # a busy host may need longer until somebody runs and can be frozen
        code, mark = _sleeper(target)
        frozen_in_time: list[bool] = []

        async def freeze(mark: str = mark, seen: list[bool] = frozen_in_time) -> None:
            while not seen:
                await trio.sleep(0.02)
                try:
                    for pid in _lives(target, mark)[:1]:
                        own = Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2]
                        (mounts["unified"] / own.lstrip("/") / "cgroup.freeze").write_text("1")
                        seen.append(True)
                except OSError:  # it has ended
                    continue

        async with meanwhile(freeze):
            answer = await target.try_execute(code, "bash", timeout=limit)
        if frozen_in_time:
            break
    else:
        raise Untried("this host is too busy: nothing could be frozen before its time was over")
    if answer.status != 200 or answer.json["status"] != "TO":
        raise Broken(f"a frozen program is answered with {answer.status} {answer.body[:200]!r}")
    await eventually("the frozen program is dead", lambda: not _lives(target, mark))


@_case(
    "P10",
    "use against deletion",
    promise="A session that is used and deleted at the same moment is the one or the other, never half of both.",
    meaning="Races leave sessions that nobody can delete, or give results to nobody.",
    mend=_OURS,
)
async def races(target: Target) -> str:
    """Run in sessions while they are deleted."""
    seen: dict[str, int] = {}
    for _ in range(8):
        session = (await target.execute("echo 1 > one.txt", "bash"))["session_id"]
        path = f"/v1/sessions/{session}"
        used, deleted = await together(
            partial(target.try_execute, "cat one.txt; echo 2 > two.txt", "bash", session_id=session),
            partial(target.request, "DELETE", path),
        )
        if used.status >= 500 or deleted.status >= 500:
            raise Broken(f"used: {used.status} {used.body[:100]!r}; deleted: {deleted.status} {deleted.body[:100]!r}")
        after = await target.request("GET", path)
        if after.status not in (200, 404):
            raise Broken(f"afterwards the session is answered with {after.status}")
        key = f"{used.status}/{deleted.status}/{after.status}"
        seen[key] = seen.get(key, 0) + 1
    return ", ".join(f"{count} x {key}" for key, count in sorted(seen.items()))


_LEAVE_BEHIND: Final = """
import builtins, ctypes, os, subprocess, sys
mark = "MARK"
for directory in ("/tmp", "/dev/shm", "/mnt/data"):
    open(f"{directory}/.{mark}", "w").write(mark)
os.environ["LEFT"] = mark
builtins.left = mark
sys.modules["left"] = builtins
libc = ctypes.CDLL(None)
libc.shmget(int(mark) & 0x7fffffff, 4096, 0o1666)
subprocess.Popen(["sleep", mark], start_new_session=True)
os.makedirs(os.path.expanduser("~/.config/pip"), exist_ok=True)
open(os.path.expanduser("~/.config/pip/pip.conf"), "w").write(mark)
import numpy; numpy.left = mark
print("left")
"""
_LOOK_FOR_IT: Final = """
import builtins, ctypes, glob, os, sys
mark = "MARK"
found = []
for directory in ("/tmp", "/dev/shm", "/mnt/data", "/var/tmp"):
    for root, _, names in os.walk(directory):
        found += [f"{root}/{name}" for name in names if mark in name or "pip.conf" in name]
found += [name for name, value in os.environ.items() if mark in value]
found += ["builtins"] * hasattr(builtins, "left") + ["modules"] * ("left" in sys.modules)
for line in glob.glob("/proc/[0-9]*/cmdline"):
    try: found += [line] * (mark.encode() in open(line, "rb").read() and line != f"/proc/{os.getpid()}/cmdline")
    except OSError: pass
found += ["shm"] * (ctypes.CDLL(None).shmget(int(mark) & 0x7fffffff, 4096, 0) >= 0)
try:
    import numpy; found += ["numpy"] * hasattr(numpy, "left")
except ImportError: pass
print("FOUND " + " ".join(found) if found else "CLEAN")
"""


@_case(
    "P11",
    "what the tenant before has left",
    promise="A sandbox is used by one session and never again: nothing of one tenant is in another's.",
    meaning="A tenant reads another's files, or runs in an interpreter that another has prepared.",
    mend=_OURS,
)
async def used_again(target: Target) -> str:
    """Leave marks everywhere as one tenant, look for them as another, in many sandboxes."""
    target.need_language("python")
    mark = str(random.SystemRandom().randrange(10**9, 2 * 10**9))
    looks = 0
    for _ in range(3):
        left = await target.execute(_LEAVE_BEHIND.replace("MARK", mark), "py")
        if left["stdout"] != "left\n":
            raise Untried(f"the marks could not be left: {left['stderr'][-200:]}")
        code = _LOOK_FOR_IT.replace("MARK", mark)
        for answer in await together(
            *(partial(target.execute, code, "py", caller=target.stranger) for _ in range(4)),
            partial(target.execute, code, "py", user="somebody-else"),
        ):
            looks += 1
            if answer["stdout"] != "CLEAN\n":
                raise Broken(f"another tenant finds {answer['stdout'][:300]!r} {answer['stderr'][-200:]!r}")
    return f"looked for in {looks} sandboxes"


@_case(
    "P13",
    "many at once in one session",
    promise="Executions of one session at the same time are all right: none is lost, none sees half of another.",
    meaning="Parallel calls of an agent corrupt its own state, silently.",
    mend=_OURS,
)
async def at_once(target: Target) -> str:
    """Count in one interpreter from several connections; write files from several sandboxes."""
    target.need_language("python")
    if target.policy.state == "never":
        raise Untried("the policy keeps no interpreter")
    session = (await target.execute("count = 0", "py", stateful=True))["session_id"]
    code = "old = count\nimport time; time.sleep(0.02)\ncount = old + 1\nprint(count)"
    answers = await together(
        *(partial(target.execute, code, "py", stateful=True, session_id=session) for _ in range(6))
    )
    seen = sorted(int(answer["stdout"]) for answer in answers)
    if seen != [1, 2, 3, 4, 5, 6]:
        raise Broken(f"six increments at once give {seen}")
    plain = (await target.execute("echo start > start.txt", "bash"))["session_id"]
    await together(*(partial(target.execute, f"echo {n} > file{n}.txt", "bash", session_id=plain) for n in range(4)))
    listed = (await target.request("GET", f"/v1/sessions/{plain}")).json["files"]
    names = sorted(file["path"] for file in listed)
    if names != ["file0.txt", "file1.txt", "file2.txt", "file3.txt", "start.txt"]:
        raise Broken(f"of four executions at once these files are left: {names}")
    return "6 cells and 4 programs"


@_case(
    "P6",
    "numbers that are used again",
    promise="Whoever is killed at a limit is the one that was meant, however fast process numbers go round.",
    meaning="Somebody's program can be killed in place of the attacker's.",
    mend=_OURS,
)
async def numbers(target: Target) -> None:
    """Let attackers burn process numbers up to their time limit, beside a neighbour who must not notice."""
    target.need_language("bash")
    burner = "trap '' TERM; while :; do (:) & (:); done"

    async def burn() -> None:
        for _ in range(3):
            answer = await target.execute(burner, "bash", timeout=700)
            if answer["status"] != "TO":
                raise Broken(f"the attacker ended by {answer['status']} {answer['signal']}")

    neighbour, _, _ = await together(
        partial(target.execute, "sleep 3; echo unharmed", "bash", caller=target.stranger), burn, burn
    )
    if neighbour["stdout"] != "unharmed\n" or neighbour["code"] != 0:
        raise Broken(f"the neighbour ended by {neighbour['signal']}, {neighbour['stdout']!r}")
