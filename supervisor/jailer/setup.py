"""The only code that runs as host root: some moments at start, then never again.

It gives a cgroup subtree to the first uid of the subordinate range, makes the mount tree that the jailer will live in
(nothing of the host that is not named here), forks the keeper into a user namespace with that range mapped, and then
drops the calling process to an ordinary user without any capability. Namespaces and mounts hang on the processes, so
the kernel cleans them up; cgroups and files of an earlier run are reconciled here.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import select
import signal
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from supervisor.errors import ConfigurationError
from supervisor.jailer import kernel, prison
from supervisor.jailer.cells import PoolPlan
from supervisor.jailer.cgroup import Layout
from supervisor.jailer.cgroup_subtree import Leftovers, enter_subtree, make_subtree, remove_subtree_named, subtree_name
from supervisor.jailer.config import FIRST_OUTSIDE_ID, JailerConfig
from supervisor.jailer.interpreters import RuntimeProfile
from supervisor.jailer.seccomp import Compiled
from supervisor.microvm.machine_plan import MachinePlan
from supervisor.policy import Policy

READY_SECONDS: Final = 180
EGRESS_SOCKET: Final = "egress.sock"
MAX_SOCKET_PATH_BYTES: Final = 100
_HOLDER: Final = re.compile(r"(?P<name>gaoler-[0-9a-f]{8}) (?P<identity>\d+:\d+)\n")
NOFILE: Final = 1 << 17
"""A jail costs the jailer about ten descriptors, a connection one."""


@dataclass(frozen=True, slots=True)
class MicrovmPlan:
    """What virtual machines are made of. Paths are the host's."""

    guest: Path
    """What a guest sees as ``/opt/gaoler``."""
    libraries: Mapping[str, Path]
    """Of the helper, by the names that it looks for."""
    machines: MachinePlan


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """All that ``setup`` needs to know. Paths are the host's."""

    state_directory: Path
    usr: Path
    """What sandboxes see as ``/usr``: :data:`supervisor.jailer.prison.HOST_USR`, or an image's own."""
    etc: Path
    """The ``/etc`` that belongs to it."""
    image: Path
    policies: Mapping[str, Policy]
    seccomp_profiles: Mapping[str, str]
    """Of languages: kafel source by name."""
    profiles: Sequence[RuntimeProfile]
    pools: Sequence[PoolPlan]
    policy_directory: Path
    nsjail: Path
    init: Path
    python: Sequence[str]
    code: Sequence[Path]
    """Directories with the interpreter's environment and our own modules; the jailer sees these, read-only."""
    daemon_uid: int
    first_subordinate_uid: int
    subordinate_uids: int
    builders: int
    max_jails: int
    log_level: str
    filters: Mapping[str, bytes]
    """Seccomp programs (BPF) of our own processes: ``daemon``, ``jailer``, ``proxy`` and ``connector``."""
    compiled: Compiled | None = None
    """Seccomp programs of ``policies`` and ``seccomp_profiles``, if they are compiled already."""
    build_seconds: float = 30.0
    """How long building a jail may take."""
    egress: bool = False
    """The policy in force has a network: there is an egress proxy."""
    proxy: str = "egress.proxy"
    """Module of the program that serves what sandboxes connect to."""
    shared_packages: Path | None = None
    """What every sandbox finds at ``/opt/packages``."""
    trusted_authority: str = ""
    """A certificate (PEM) that sandboxes trust beside the host's; empty: none."""
    watch_fd: int | None = None
    """Logging mode: a file of ours for what the seccomp filters would not allow."""
    microvm: MicrovmPlan | None = None
    """There are virtual machines."""


@dataclass(frozen=True, slots=True)
class JailerHandle:
    """A running jailer. Closing ``control_fd`` ends it; ``keeper_pid`` is our child and ends with it."""

    socket_path: Path
    keeper_pid: int
    control_fd: int
    lock_fd: int
    layout: Layout
    """Of the cgroups, in paths of the host."""
    left: Leftovers = field(default_factory=Leftovers)
    """What an earlier daemon had left and was removed."""


@prison.passable()
def start_jailer(plan: SetupPlan) -> JailerHandle:
    """Prepare the host and start keeper and jailer; return when the jailer serves. Needs host root.

    Raises:
        ConfigurationError: something is missing, or another daemon uses the same state directory.
        OSError: the host refused a step.
    """
    _raise_limits()
    lock_fd = _prepare_state(plan)
    left = Leftovers()
    layout = make_subtree(plan.state_directory, plan.first_subordinate_uid, left)
    socket_path = plan.state_directory / "run" / "jailer.sock"
    listener = _listen(socket_path, plan.daemon_uid)
    egress = _egress_listener(plan)
    config_fd = os.memfd_create("jailer-config")
    os.write(config_fd, msgspec.msgpack.encode(_jailer_config(plan, layout)))
    filter_fd = os.memfd_create("proxy-filter")
    os.write(filter_fd, plan.filters["proxy"])
    control_read, control_write = os.pipe()
    ready_read, ready_write = os.pipe()
    mapped, unmapped = socket.socketpair()
    keeper_pid = os.fork()
    if keeper_pid == 0:
        # The lock goes with the daemon, and so does the other end of the pair: the keeper to be must not wait for ever.
        os.close(lock_fd)
        unmapped.close()
        fds = [control_read, config_fd, listener.fileno(), ready_write, filter_fd]
        _become_keeper(plan, layout, mapped, fds, egress)
    for fd in (control_read, ready_write, config_fd, filter_fd):
        os.close(fd)
    listener.close()
    if egress is not None:
        egress.close()
    mapped.close()
    try:
        _write_maps(unmapped, keeper_pid, plan)
        _await_ready(ready_read)
    except BaseException:
        os.close(control_write)
        os.waitpid(keeper_pid, 0)
        raise
    finally:
        unmapped.close()
        os.close(ready_read)
    return JailerHandle(socket_path, keeper_pid, control_write, lock_fd, layout, left)


def become_ordinary_user(
    uid: int, place: Path, readable: Sequence[Path], writable: Sequence[Path], hosts: Sequence[Path] = ()
) -> None:
    """Make the calling process an ordinary user for good: no capability, no way back, new files private.

    Of the host it sees ``readable``, ``writable`` and the ``hosts`` directories, and what
    :func:`supervisor.jailer.prison.enter_view` adds. Call while the process has one thread.

    Raises:
        ConfigurationError: a directory is open, or one of these is none.
        OSError: the host refused a step.
    """
    _refuse_open_directories()
    prison.enter_view(place, readable, writable, hosts)
    os.umask(0o077)
    kernel.drop_bounding_set()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)


def _refuse_open_directories() -> None:
    """An open directory belongs to the mounts of before: its parents lead to all of the host, whatever the view is."""
    for each in Path("/proc/self/fd").iterdir():
        # The one by which they are listed has been closed meanwhile.
        if each.is_dir():
            raise ConfigurationError(
                f"descriptor {each.name} is the directory {each.readlink()}: start Gaoler without it"
            )


def _raise_limits() -> None:
    """Hard limits cannot be raised inside the user namespace, so they are now, as far as the host allows."""
    ceiling = int(Path("/proc/sys/fs/nr_open").read_text())
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(ceiling, NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except ValueError:  # no CAP_SYS_RESOURCE, as in many containers
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _prepare_state(plan: SetupPlan) -> int:
    """Make the directories of the daemon's user and take the lock; return its descriptor."""
    socket_bytes = len(os.fsencode(plan.state_directory / "run" / "jailer.sock"))
    if socket_bytes > MAX_SOCKET_PATH_BYTES:
        raise ConfigurationError(
            f"the path is too long for a unix socket in it, by {socket_bytes - MAX_SOCKET_PATH_BYTES} bytes",
            field="state_dir",
        )
    plan.state_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    # The daemon inherits it, and what stands in it is for the root of the next start: it can be read only.
    lock_fd = os.open(plan.state_directory / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        raise ConfigurationError(
            f"another gaoler uses {plan.state_directory}: stop it, or give this one its own --state-dir",
            field="state_dir",
        ) from None
    _end_namesake(lock_fd, plan.state_directory)
    for name in ("run", "data"):
        directory = plan.state_directory / name
        directory.mkdir(mode=0o700, exist_ok=True)
        os.chown(directory, plan.daemon_uid, plan.daemon_uid)
    for each in (plan.state_directory / "run").iterdir():
        # Nobody listens there any more: the lock is ours.
        if stat.S_ISSOCK(each.lstat().st_mode):
            each.unlink()
    return lock_fd


def _end_namesake(lock_fd: int, state_directory: Path) -> None:
    """Remove the cgroups of an earlier daemon that came here by another path, through a bind mount say.

    They are named after the path, so this start would not find them. The lock file holds the last name, and its own
    inode: a copy of the directory is another directory, whose daemon may well run.
    """
    status = os.fstat(lock_fd)
    identity = f"{status.st_dev}:{status.st_ino}"
    name = subtree_name(state_directory)
    found = _HOLDER.fullmatch(os.pread(lock_fd, 200, 0).decode("ascii", "replace"))
    if found is not None and found["identity"] == identity and found["name"] != name:
        remove_subtree_named(found["name"])
    Path(f"/proc/self/fd/{lock_fd}").write_text(f"{name} {identity}\n", encoding="ascii")


def _listen(path: Path, daemon_uid: int) -> socket.socket:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path} is in the way of a socket, remove it: {error}", field="state_dir") from None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The directory is the daemon's: what stands there a moment later is not followed.
    previous = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(previous)
    os.chown(path, daemon_uid, daemon_uid, follow_symlinks=False)
    listener.listen(64)
    return listener


def _egress_listener(plan: SetupPlan) -> socket.socket | None:
    """Make the daemon's way to the egress proxy, if there is to be one."""
    if not plan.egress:
        return None
    return _listen(plan.state_directory / "run" / EGRESS_SOCKET, plan.daemon_uid)


def _jailer_config(plan: SetupPlan, layout: Layout) -> JailerConfig:
    inside = {name: f"{prison.CGROUP}/{name}" for name in layout.directories}
    return JailerConfig(
        nsjail=str(plan.nsjail),
        init=str(plan.init),
        python=list(plan.python),
        usr=prison.place_of_usr(plan.usr),
        image=prison.IMAGE,
        etc=prison.ETC,
        dev=prison.DEV,
        empty=prison.EMPTY,
        shared=prison.SHARED,
        work=prison.WORK,
        layout=Layout(version=layout.version, directories=inside),
        policies=dict(plan.policies),
        seccomp_profiles=dict(plan.seccomp_profiles),
        compiled=plan.compiled,
        profiles=list(plan.profiles),
        pools=list(plan.pools),
        ids=min(plan.subordinate_uids - FIRST_OUTSIDE_ID - 1, 60_000),
        builders=plan.builders,
        max_jails=plan.max_jails,
        log_level=plan.log_level,
        own_filter=plan.filters["jailer"],
        build_seconds=plan.build_seconds,
        guest=prison.GUEST,
        machine=prison.MACHINE,
        machine_dev=prison.MACHINE_DEV,
        machines=None if plan.microvm is None else plan.microvm.machines,
    )


def _become_keeper(
    plan: SetupPlan, layout: Layout, sync: socket.socket, fds: Sequence[int], egress: socket.socket | None
) -> None:
    """In the child: build the mount tree, enter the user namespace, execute the keeper. Never returns."""
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        enter_subtree(layout, plan.first_subordinate_uid)
        kernel.unshare(kernel.CLONE_NEWNS)
        prison.build(plan, layout)
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        sync.send(b"u")
        if not sync.recv(1):
            os._exit(78)  # the daemon has died
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        watch_fd = -1 if plan.watch_fd is None else plan.watch_fd
        all_fds = [*fds, -1 if egress is None else egress.fileno(), watch_fd]
        for fd in all_fds:
            if fd >= 0:
                os.set_inheritable(fd, True)
        told = [*map(str, all_fds), plan.log_level, plan.proxy, *plan.python]
        os.execve(plan.python[0], [*plan.python, "-m", "supervisor.jailer.keeper", *told], {})
    except (OSError, ConfigurationError) as error:
        os.write(2, f"CRITICAL gaoler.setup {error}\n".encode())
    finally:
        os._exit(78)


def _write_maps(sync: socket.socket, keeper_pid: int, plan: SetupPlan) -> None:
    if not sync.recv(1):
        raise ConfigurationError("the jailer's namespaces could not be made; the reason is in the log above")
    # The last one is the connector's, and nobody's in there.
    line = f"0 {plan.first_subordinate_uid} {plan.subordinate_uids - 1}"
    Path(f"/proc/{keeper_pid}/uid_map").write_text(line)
    Path(f"/proc/{keeper_pid}/gid_map").write_text(line)
    sync.send(b"m")


def _await_ready(ready_read: int) -> None:
    if not select.select([ready_read], [], [], READY_SECONDS)[0]:
        raise ConfigurationError(f"the jailer did not become ready in {READY_SECONDS} s; see the log above")
    if not os.read(ready_read, 1):
        raise ConfigurationError("the jailer refuses to start; the reason is in the log above")
