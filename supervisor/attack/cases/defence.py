"""Group D: our own processes. What is left to somebody who has captured one of them."""

from __future__ import annotations

import os
import stat
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from supervisor.attack import building, host
from supervisor.attack.captured import Order
from supervisor.attack.case import Broken, Collection
from supervisor.attack.target import Target
from supervisor.jailer import protocol
from supervisor.jailer.channels import MESSAGE
from supervisor.jailer.seccomp import compile_policy
from supervisor.policy import load_policies
from supervisor.preparation.nsjail_program import nsjail_path
from supervisor.preparation.prepare import DOORS, code_directories, own_filters, policy_directory
from supervisor.preparation.remote import connector_uid

COLLECTION: Final = Collection()
_case: Final = COLLECTION.case
_MEND: Final = "Run 'gaoler doctor'; compare policies/processes with what was shipped; report it with this run's JSON."
_MEANING: Final = "A fault in one of our own processes would be a fault of the whole host."


async def _captured(
    target: Target, role: str, uid: int, program: bytes | None = None, *, module: str = "captured"
) -> None:
    """Run hostile code in the confinement of one of our own processes; ``program``: its filter, if it is a jail's."""
    with tempfile.TemporaryDirectory(prefix="gaoler-attack-") as directory:
        work = Path(directory)
        work.chmod(0o755)
        for name in ("root", "written", "host"):
            (work / name).mkdir(mode=0o755)
        service = trio.socket.socket(trio.socket.AF_UNIX)
        await service.bind(str(work / "host" / "service"))
        (work / "host" / "service").chmod(0o777)
        service.listen(1)
        secret = work / "secret"
        secret.write_text("not for you")
        secret.chmod(0o600)
        order = Order(
            program=program or own_filters(target.settings)[role],
            uid=uid,
            place=str(work / "root"),
            readable=[str(path) for path in (*code_directories(), *DOORS)],
            writable=[str(work / "written")],
            hosts=[str(work / "host")],
            secrets=[str(secret), "/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/dev/mem", "/dev/kmsg"],
        )
        command = [sys.executable, "-I", "-m", f"supervisor.attack.{module}", role]
        done = await trio.run_process(
            command, stdin=msgspec.msgpack.encode(order), capture_stdout=True, capture_stderr=True, check=False, env={}
        )
        service.close()
    said = done.stdout.decode("utf-8", "replace").strip()
    if said != "CONTAINED":
        raise Broken(said or f"exit {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-300:]}")


@_case(
    "D1",
    "a captured daemon",
    promise="The daemon can start no program and no process, open no new network socket, and neither see nor change "
    "files of the host's but its own.",
    meaning=_MEANING,
    mend=_MEND,
)
async def captured_daemon(target: Target) -> None:
    """Be the daemon, and try."""
    await _captured(target, "daemon", target.ids.start - 1)


@_case(
    "D3",
    "a captured jailer",
    promise="The jailer, though root of its user namespace, reaches no keyrings, modules, BPF, clocks or rings of the "
    "kernel, and no file or process of the host.",
    meaning=_MEANING,
    mend=_MEND,
)
async def captured_jailer(target: Target) -> None:
    """Be the jailer, and try."""
    await _captured(target, "jailer", target.ids.start)


@_case(
    "D4",
    "a captured proxy",
    promise="The egress proxy can start nothing, change no file, and open only ordinary sockets.",
    meaning=_MEANING,
    mend=_MEND,
)
async def captured_proxy(target: Target) -> None:
    """Be the proxy, and try."""
    await _captured(target, "proxy", target.ids.start + 1)


@_case(
    "D8",
    "a captured daemon asks the connector",
    promise="The connector dials the servers that the settings name and nothing else, whatever it is asked, in "
    "whatever form and however often; nothing that it is asked stops it.",
    meaning="A fault in the daemon would reach every host that this one reaches.",
    mend=_MEND,
)
async def asked_connector(target: Target) -> None:
    """Ask a connector as a captured daemon might."""
    program = own_filters(target.settings)["connector"]
    await _captured(target, "asker", connector_uid(target.settings), program, module="captured_connector")


@_case(
    "D9",
    "a captured connector",
    promise="The connector can start nothing, open no file for writing, see no file of the host's but code and how "
    "names are found, and make only ordinary sockets, on which it cannot listen.",
    meaning=_MEANING,
    mend=_MEND,
)
async def captured_connector(target: Target) -> None:
    """Be the connector, and try."""
    await _captured(target, "connector", connector_uid(target.settings), module="captured_connector")


@_case(
    "D7",
    "a captured virtual machine's process",
    promise="What has taken over the process of its virtual machine makes no socket, changes no file, and reaches no "
    "namespace, module, key or ring of the kernel: of its interfaces it has KVM's, and files to read.",
    meaning="A guest that breaks out would be on the host with more than a sandbox has.",
    mend="Compare policies/seccomp/machine.kafel with what was shipped; report it with this run's JSON.",
)
async def captured_machine(target: Target) -> None:
    """Be that process, and try."""
    policy = load_policies(policy_directory(target.settings), "machines")["krun"]
    program = compile_policy(str(nsjail_path()), policy.seccomp_source)
    await _captured(target, "machine", target.ids.start + 2, program)


@_case(
    "D2",
    "what runs is confined",
    promise="Daemon, jailer, proxy and connector run under filters of their own; no process of ours has rights over "
    "the host.",
    meaning=_MEANING,
    mend=_MEND,
)
async def confined(target: Target) -> str:
    """Look at every process of the running family; one that is root is root of a user namespace only."""
    ours, network = host.namespace("self", "user"), host.namespace("self", "net")
    seen = 0
    for pid in target.family():
        fields = host.status(pid)
        space = host.namespace(str(pid), "user")
        if not fields or not space:
            continue
        seen += 1
        name, uid = fields["Name"], int(fields["Uid"].split()[0])
        if uid == 0:
            raise Broken(f"{name} runs as root of the host")
        if space == ours and (int(fields["CapEff"], 16) or fields["NoNewPrivs"] != "1"):
            raise Broken(f"{name} has capabilities of the host, {fields['CapEff']}, or could get them")
        filtered = (
            name in ("gaoler-jailer", "gaoler-egress", "gaoler-connect", "gaoler-zygote", "gaoler-warm")
            or pid == target.daemon_pid
        )
        if filtered and fields["Seccomp"] != "2":
            raise Broken(f"{name} has no filter of its own")
        if filtered and name not in ("gaoler-egress", "gaoler-connect") and host.namespace(str(pid), "net") == network:
            raise Broken(f"{name} is in the host's network")
    _leads_nowhere(target.daemon_pid)
    return f"{seen} processes"


def _identity(descriptor: Path) -> tuple[int, int]:
    status = descriptor.stat()
    return status.st_dev, status.st_ino


def _leads_nowhere(daemon: int) -> None:
    """Look at what the daemon has open: nothing from which it climbs out of its view, nothing that root trusts."""
    descriptors = Path(f"/proc/{daemon}/fd")
    # The log may have one of its own for what standard output and error are: the file that it was started with.
    standard = {_identity(each) for each in (descriptors / "1", descriptors / "2") if each.exists()}
    for each in sorted(descriptors.iterdir(), key=lambda each: int(each.name)):
        try:
            status, where = each.stat(), str(each.readlink())
            told = (descriptors.parent / "fdinfo" / each.name).read_text(encoding="ascii")
        except OSError:
            continue  # closed meanwhile
        if stat.S_ISDIR(status.st_mode):
            raise Broken(f"the daemon has the directory {where} open, whose parents are all of the host")
        flags = next(int(line.split()[1], 8) for line in told.splitlines() if line.startswith("flags:"))
        trusted = stat.S_ISREG(status.st_mode) and status.st_uid == 0 and flags & os.O_ACCMODE
        if trusted and int(each.name) > 2 and (status.st_dev, status.st_ino) not in standard:
            raise Broken(f"the daemon can write to {where}, which is root's")


@_case(
    "D5",
    "a captured door asks the jailer",
    promise="The jailer checks every request against the policies that it was started with, whoever asks.",
    meaning="Whoever captures the daemon makes sandboxes with weaker walls.",
    mend="Report it with the JSON of this run: this is a fault of Gaoler's own.",
    place="twin",
)
async def captured_door(target: Target) -> str:
    """Speak to the jailer as the daemon would, and ask for more."""
    wanted: dict[str, Any] = {
        "a policy that is not in force": {"type": "open", "policy": "no-such-policy"},
        "a policy by path": {"type": "open", "policy": "../default"},
        "a profile that is not there": {"type": "open", "policy": target.policy.name, "profile": "root"},
        "limits of its own": {"type": "open", "policy": target.policy.name, "limits": {"processes": 100_000}},
        "a tier of its own": {"type": "open", "policy": target.policy.name, "tier": "none"},
        "mounts of its own": {
            "type": "open",
            "policy": target.policy.name,
            "mounts": [{"source": "/", "target": "/mnt"}],
        },
        "no message at all": {"type": "root-shell"},
    }
    for what, message in wanted.items():
        answer = await _ask(target, [message])
        if b"opened" in answer:
            raise Broken(f"{what} is granted")
    opened = protocol.encode(protocol.OpenJail(policy=target.policy.name))
    for what, message in {
        "a file outside of the workspace": {"type": "put", "area": "workspace", "name": b"../../x", "size": 0},
        "a file by an absolute path": {"type": "put", "area": "workspace", "name": b"/etc/x", "size": 0},
        "an area that is none": {"type": "put", "area": "root", "name": b"x", "size": 0},
    }.items():
        answer = await _ask(target, [opened, message])
        if b"stored" in answer:
            raise Broken(f"{what} is stored")
    return f"{len(wanted) + 3} requests"


@_case(
    "D6",
    "what a build runs of packages",
    promise="Code of packages that runs while an image is built has the filter of every sandbox: no namespace, mount, "
    "trace, keyring, module or odd socket.",
    meaning="Code of a package, which is root's without rights there, attacks the kernel while an image is built.",
    mend="Build no image before it is mended; report it with the JSON of this run: this is a fault of Gaoler's own.",
)
async def what_builds_run(_target: Target) -> str:
    """Let the programs that try the kernel's surface be what a package brings."""
    for name in building.TRIED:
        got = await trio.to_thread.run_sync(building.try_in_build, name)
        if got:
            raise Broken(f"{name}: {got}")
    return f"{len(building.TRIED)} programs"


async def _ask(target: Target, messages: list[Any]) -> bytes:
    """Send messages on a connection and a channel of its own; give all that comes back within a moment."""
    made = trio.socket.socket(trio.socket.AF_UNIX)
    await made.connect(str(target.state_directory / "run" / "jailer.sock"))
    found = b""
    async with trio.SocketStream(made) as stream:
        for message in messages:
            payload = message if isinstance(message, bytes) else msgspec.msgpack.encode(message)
            await stream.send_all(struct.pack("!IIB3s", len(payload), 1, MESSAGE, b"") + payload)
        with trio.move_on_after(2):
            while piece := await stream.receive_some(65_536):
                found += piece
                if b"fault" in found or b"refused" in found:
                    break
    return found
