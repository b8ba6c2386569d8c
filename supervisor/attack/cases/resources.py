"""Group R from outside: what the host and the neighbours notice of an attack, and what is left after many."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Final

import trio

from supervisor.attack import host
from supervisor.attack.case import Broken, Collection
from supervisor.attack.cases.lifetime import at_rest
from supervisor.attack.target import Target, meanwhile, together

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_GROWTH_BYTES: Final = 48 << 20
_LOOKS: Final = 8
_MEND: Final = "Lower execution.concurrent and the policy's limits; 'gaoler doctor' says which controller is missing."

BOMBS: Final[dict[str, tuple[str, str]]] = {
    "a fork bomb": ("bash", "f() { f | f & }; f; sleep 60"),
    "a memory bomb": ("py", "kept = []\nwhile True: kept.append(bytearray(16 << 20))"),
    "a flood of output": ("bash", "exec yes"),
    "a full disk": ("bash", "while :; do head -c 64M /dev/zero > a; cp a b; cp a /tmp/a; rm -f b; done"),
    "spinning threads": ("bash", "for i in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait"),
}


@_case(
    "R1",
    "the neighbours of bombs",
    promise="Beside a fork bomb, a memory bomb, floods, full disks and spinners the programs of others end well.",
    meaning="One caller can take the service from all others.",
    mend=_MEND,
    place="twin",
)
async def neighbours(target: Target) -> str:
    """Run a neighbour's small programs alone and beside each bomb; tell how their time moved, which is not judged."""
    target.need_language("bash")

    async def once() -> float:
        started = trio.current_time()
        answer = await target.execute("echo well", "bash", caller=target.stranger)
        if answer["stdout"] != "well\n" or answer["code"] != 0:
            raise Broken(
                f"a neighbour's program ended by {answer['status']} {answer['signal']}: {answer['stderr']!r:.200}"
            )
        return trio.current_time() - started

    alone = statistics.median([await once() for _ in range(_LOOKS)])
    moved = []
    for name, (lang, code) in BOMBS.items():

        async def explode(lang: str = lang, code: str = code) -> None:
            while True:
                await target.execute(code, lang, timeout=4000)

        async with meanwhile(explode, explode):
            await trio.sleep(0.5)
            beside = statistics.median([await once() for _ in range(_LOOKS)])
        moved.append(f"{name} x {beside / alone:.1f}")
    return f"median alone {alone * 1000:.0f} ms; beside " + ", ".join(moved)


@_case(
    "R4",
    "our memory in a flood",
    promise="However much a program prints, the memory of our own processes stays where it was.",
    meaning="A program's output exhausts the host's memory from outside of its sandbox.",
    mend="Report it with the JSON of this run: this is a fault of Gaoler's own.",
    place="twin",
)
async def memory_in_a_flood(target: Target) -> str:
    """Let four floods run at once, twice, and compare."""
    pids = {name: target.named(name) for name in ("gaoler-jailer", "gaoler-zygote")} | {"daemon": target.daemon_pid}
    await together(*(partial(target.execute, "exec yes", "bash") for _ in range(2)))
    before = {name: host.resident_bytes(pid) for name, pid in pids.items()}
    peak = dict(before)

    async def watch() -> None:
        while True:
            for name, pid in pids.items():
                peak[name] = max(peak[name], host.resident_bytes(pid))
            await trio.sleep(0.02)

    async with meanwhile(watch):
        for _ in range(2):
            await together(*(partial(target.execute, "exec yes", "bash") for _ in range(4)))
    grown = {name: peak[name] - before[name] for name in pids}
    if max(grown.values()) > _GROWTH_BYTES:
        raise Broken(f"grown by {grown} bytes")
    return ", ".join(f"{name} +{max(0, each) >> 10} KiB" for name, each in grown.items())


@_case(
    "R14",
    "more than is taken",
    promise="A request that is larger than the limits is refused while it is read, and costs no memory.",
    meaning="A single request exhausts the daemon's memory.",
    mend="Lower http.body_bytes; put a limit into the proxy in front as well.",
    place="twin",
)
async def too_large(target: Target) -> str:
    """Send a body without an end in pieces, and one that is deep."""
    pid = target.daemon_pid
    before = host.resident_bytes(pid)
    piece = b'"' + b"x" * (1 << 20)
    headers = {"Content-Type": "application/json"}
    statuses = []
    for body in ([piece] * 200, [b'{"lang": "py", "code": ' + b"[" * 900_000]):
        try:
            statuses.append((await target.request("POST", "/v1/exec", body, headers)).status)
        except Broken:
            statuses.append(0)  # the daemon has closed the connection, which is an answer too
    if not set(statuses) <= {0, 400, 413}:
        raise Broken(f"answered with {statuses}")
    # One that has died of it holds nothing either.
    if (await target.request("GET", "/health")).status != 200 or target.daemon_pid != pid:
        raise Broken(f"answered with {statuses}, and then the daemon is not what it was")
    grown = host.resident_bytes(pid) - before
    if grown > 3 * _GROWTH_BYTES:
        raise Broken(f"the daemon holds {grown >> 20} MiB more than before")
    return f"answers {statuses}, +{max(0, grown) >> 20} MiB"


@_case(
    "R16",
    "many executions",
    promise="Nothing grows with use: no processes, cgroups, mounts, descriptors or memory.",
    meaning="The host fills up, slowly, and the daemon has to be restarted.",
    mend="Restart the daemon; report it with the JSON of this run.",
    place="twin",
)
async def many(target: Target) -> str:
    """Run three hundred, eight at a time, a third of them killed at a limit; compare with after the first sixty."""
    programs = [("bash", "echo $RANDOM > file; echo done"), ("bash", "sleep 60 & kill -9 $$"), ("bash", "sleep 9")]

    async def some(count: int) -> None:
        limit = trio.CapacityLimiter(8)

        async def one(number: int) -> None:
            async with limit:
                lang, code = programs[number % 3]
                await target.execute(code, lang, timeout=200 if number % 3 == 2 else 5000)

        await together(*(partial(one, number) for number in range(count)))

    await some(60)
    before = await at_rest(target)
    memory = host.resident_bytes(target.daemon_pid) + host.resident_bytes(target.named("gaoler-jailer"))
    await some(240)
    after = await at_rest(target)
    grown = {name: (before[name], after[name]) for name in before if after[name] > before[name]}
    if grown:
        raise Broken(f"more is held than before: {grown}")
    more = host.resident_bytes(target.daemon_pid) + host.resident_bytes(target.named("gaoler-jailer")) - memory
    if more > _GROWTH_BYTES // 4:
        raise Broken(f"daemon and jailer hold {more >> 10} KiB more than before")
    return f"after 60 and after 300 executions the same; memory {more >> 10:+} KiB"
