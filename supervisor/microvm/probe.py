"""The only proof that a host gives virtual machines: one is booted, and something runs in it.

That ``/dev/kvm`` opens and answers proves nothing (a nested or paravirtual KVM may do so and never reach user space).
"""

from __future__ import annotations

import os
import time
from typing import Final

import msgspec
import trio

from supervisor import oneshot
from supervisor.core import Core, Prepared
from supervisor.errors import GaolerError, SandboxFailed
from supervisor.jailer import protocol
from supervisor.jailer.client import JailRefused
from supervisor.settings.tree import Settings

BEYOND_BOOT_SECONDS: Final = 10.0
"""For the jailer in the guest, and the program, after the machine's own deadline."""
_MAX_OUTPUT: Final = 4096


class Probe(msgspec.Struct, frozen=True):
    """What came of it. ``kernel``: what the machine calls its own; ``reason``: why there is none."""

    booted: bool
    kernel: str = ""
    seconds: float = 0.0
    reason: str = ""


def boot(settings: Settings) -> Probe:
    """Start a jailer that may make machines, have one booted within its deadline, and run a program in it. Needs root.

    Leaves nothing behind.
    """
    microvm = msgspec.structs.replace(settings.microvm, enabled=True)
    # Nothing else has to wait: neither cells nor a second machine.
    cells = msgspec.structs.replace(settings.cells, floor=0, bare_floor=0)
    settings = msgspec.structs.replace(settings, microvm=microvm, cells=cells)
    try:
        answer = oneshot.attempt(settings, _ask, probing=True)
    except (GaolerError, OSError) as error:
        return Probe(booted=False, reason=str(error))
    return msgspec.msgpack.decode(answer, type=Probe)


async def _ask(core: Core, prepared: Prepared) -> bytes:
    started = time.monotonic()
    limit = prepared.settings.microvm.boot_seconds + BEYOND_BOOT_SECONDS
    probe = Probe(booted=False, reason=f"nothing ran in it within {limit:g} s")
    with trio.move_on_after(limit):
        try:
            said = await _run_in_machine(core, prepared)
            host = os.uname()
            probe = judge(said, f"{host.sysname} {host.release} {host.version}", time.monotonic() - started)
        except (JailRefused, SandboxFailed) as error:
            probe = Probe(booted=False, reason=str(error))
    return msgspec.msgpack.encode(probe)


async def _run_in_machine(core: Core, prepared: Prepared) -> str:
    """Give what a shell in a sandbox of the tier says of its kernel."""
    shell = prepared.languages["bash"]
    said = bytearray()

    async def hear(output: protocol.Output) -> None:
        said.extend(output.data[: _MAX_OUTPUT - len(said)])

    async with core.jailer.open_jail(prepared.policy.name, tier="microvm") as jail:
        request = protocol.Run(
            arguments=[shell.tools["bash"], "-c", "uname -srv"],
            environment=dict(shell.environment),
            seccomp=shell.language.seccomp,
        )
        await jail.run(request, hear)
    return said.decode("utf-8", "replace")


def judge(untrusted_said: str, own_kernel: str, seconds: float) -> Probe:
    """Decide whether what was said is of another kernel than ours, to the day it was built. Pure."""
    kernel = untrusted_said.strip()
    if not kernel.startswith("Linux ") or "\n" in kernel:
        return Probe(booted=False, reason=f"the program in it said {untrusted_said[:200]!a}")
    if kernel == own_kernel:
        return Probe(booted=False, reason="the program ran on the host's kernel: this is a fault of Gaoler, report it")
    return Probe(booted=True, kernel=kernel[:200], seconds=round(seconds, 2))
