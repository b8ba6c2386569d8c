"""A zygote with a runtime's libraries imported: each fork is an interpreter that waits in a jail.

Two steps. First, under our own Python, it gets a mount namespace in which the runtime's files lie where a sandbox sees
them (:func:`main`). Then it becomes the runtime's own Python (:func:`serve`), imports what the profile names, and
forks. The child joins the jail and gives up every right before it looks at its first byte of anything, exactly as
:mod:`supervisor.jailer.zygote` does for a program; only that no ``execve`` follows.

Known cost: all forks of one zygote share their address-space layout and their hash seed, so it is replaced after some
forks and some minutes, and a policy may ask for ``warm = "exec"``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from supervisor.jailer import kernel
from supervisor.jailer.join import JoinSpec, arrange_descriptors
from supervisor.jailer.zygote import CONTROL, Request, Zygote, begin, join_and_harden, seccomp_programs

CODE: Final = CONTROL + 1
"""Descriptor of the directory of our code, until it is imported."""
MERGED: Final = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
"""Links of the root, as policies/mounts has them: the program interpreter's path is compiled into every binary."""
_READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def main() -> None:
    """Arrange the runtime's files and become its interpreter; the first argument is the profile, as JSON."""
    profile = json.loads(sys.argv[1])
    # Our code is not to be seen in there: it is reached by its descriptor.
    code = os.open(Path(__file__).resolve().parents[2], os.O_PATH | os.O_DIRECTORY)
    enter_root(profile)
    # The command line stays as short as that of a program in a sandbox, who can read it.
    program = (
        f"import os, sys; sys.path.insert(0, '/proc/self/fd/{CODE}')\n"
        "from supervisor.jailer import interpreter_zygote as zygote\n"
        f"del sys.path[0]; os.close({CODE})\n"
        f"zygote.serve({profile['preimport']!r}, {profile['exercise']!r})\n"
    )
    source = os.memfd_create("zygote", 0)
    os.write(source, program.encode())
    os.lseek(source, 0, os.SEEK_SET)
    # Python asks its standard output at start whether it can seek; that of a program is a pipe.
    arrange_descriptors((source, os.pipe()[1], 2), [CONTROL, code])
    os.execve(profile["python"], [profile["python"], "-"], profile["environment"])


def enter_root(files: Mapping[str, Any]) -> None:
    """Get a mount namespace whose root holds what every sandbox sees, whatever the host is, and leave the old one.

    Nothing of the jailer's own is there: neither its programs nor its places.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    root = Path("/tmp")
    kernel.mount("zygote", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64k,mode=755")
    for name in ("usr", "etc", "dev", "proc", "tmp", "host"):
        (root / name).mkdir(mode=0o755)
    for name, target in MERGED.items():
        (root / name).symlink_to(target)
    kernel.bind(files["usr"], root / "usr", flags=_READ_ONLY)
    kernel.bind(files["image"], root / "usr/local", flags=_READ_ONLY)
    for path, source in files["covers"].items():
        kernel.bind(source, f"{root}{path}", flags=_READ_ONLY)
    kernel.bind(files["etc"], root / "etc", flags=_READ_ONLY)
    kernel.bind(files["dev"], root / "dev")
    kernel.bind("/proc", root / "proc")
    kernel.mount("zygote", root / "tmp", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=16m,mode=1777")
    os.chdir(root)
    kernel.pivot_root(".", "host")
    os.chdir("/")
    kernel.unmount("/host")
    kernel.mount(None, "/", None, kernel.MS_BIND | kernel.MS_REMOUNT | _READ_ONLY)


def serve(preimport: Sequence[str], exercise: str) -> None:
    """Import, make sure that forking is safe, and answer until the jailer closes its end.

    Raises:
        ImportError: a module of the profile is not in the image.
        RuntimeError: a library has started a thread.
    """
    begin("gaoler-warm")
    control = socket.socket(fileno=CONTROL)
    control.set_inheritable(False)
    interpreter: Any = importlib.import_module("gaoler_interpreter")
    with interpreter.noting_what_forks_run():
        for name in preimport:
            importlib.import_module(name)
    # Ours, not a user's: what libraries do at their first use only, such as reading their configuration, is done here.
    exec(compile(exercise, "<profile>", "exec"), {"__name__": "profile"})  # noqa: S102
    for wanted in interpreter.IN_FORKS:
        # What every fork would drop is dropped here once: open fonts, for one.
        wanted()
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise RuntimeError("a preimported library has started a thread; a fork would lose it")
    for name in [name for name in sys.modules if name == "supervisor" or name.startswith("supervisor.")]:
        del sys.modules[name]
    interpreter.remember()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    gc.collect()
    gc.disable()
    # The collector of a child never touches what all share.
    gc.freeze()
    try:
        control.send(b'{"type": "ready"}')
    except BrokenPipeError:
        return  # the jailer has ended meanwhile
    Zygote(control, {"interpreter": _become_interpreter(interpreter)}).serve()


def _become_interpreter(interpreter: Any) -> Callable[[Zygote, Request, list[int]], None]:
    def become(zygote: Zygote, request: Request, fds: list[int]) -> None:
        """Join and wait for code; the descriptors are null, error, jail, control and the cgroups."""
        null, _error, _jail, control = fds[:4]
        programs = seccomp_programs(zygote, JoinSpec(**request["join"]))
        join_and_harden(zygote, request, fds)
        arrange_descriptors((null, null, null), [control])
        kernel.close_from(CONTROL + 1)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        kernel.set_process_name("python3")
        for program in programs:
            kernel.install_seccomp(program)
        # Until here nobody inside may look at this process; from here on it is as any other program of theirs.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        _wait_for_code(interpreter)

    return become


def _wait_for_code(interpreter: Any) -> None:
    """Never returns: above is the zygote's own stack, whose descriptors are closed."""
    try:
        control = socket.socket(fileno=CONTROL)
        control.set_inheritable(False)
        interpreter.settle()
        interpreter.Interpreter(control).serve()
    finally:
        os._exit(1)


if __name__ == "__main__":
    main()
