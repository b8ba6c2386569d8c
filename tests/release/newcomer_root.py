"""An empty Debian, and a way into it: a root of its own, not a chroot, for in a chroot no user namespace can be made.

    python -m tests.release.newcomer_root ROOT PROGRAM [ARGUMENT]...

runs a program in the root, in mount and pid namespaces that end with it: no mount is ever seen by the host, and nothing
of it outlives its first process.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from supervisor.image.apt_sources import read_apt
from supervisor.image.own_root import suite_of_host
from supervisor.image.steps import run_program
from supervisor.jailer import kernel

WHAT_A_NEWCOMER_HAS: Final = ("git", "make", "python3")
_AUTHORITIES: Final = Path("/usr/local/share/ca-certificates")
_WAYS: Final = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/npmrc", "/root/.npmrc")
"""How this host finds packages; a newcomer's own machine would have its own."""
_ALONE: Final = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")


def make_root(root: Path, suite: str = "") -> None:
    """Have mmdebstrap make an empty Debian with what a newcomer has, from where this host's apt installs.

    Raises:
        ImageError: this host's apt does not say where from.
        subprocess.CalledProcessError: mmdebstrap failed.
    """
    suite = suite or suite_of_host()
    places = read_apt(suite, platform.freedesktop_os_release(), run_program)
    with tempfile.TemporaryDirectory() as scratch:
        sources, options = Path(scratch, "gaoler.sources"), Path(scratch, "options")
        sources.write_text(places.sources, encoding="utf-8")
        options.write_text(places.options, encoding="utf-8")
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--aptopt={options}"]
        command += [f"--include={','.join(WHAT_A_NEWCOMER_HAS)}", suite, str(root), str(sources)]
        subprocess.run(command, check=True)
    for way in _WAYS:
        if Path(way).exists():
            shutil.copyfile(way, root / way.lstrip("/"))
    # Python's packages bring ca-certificates, which then finds those that were added to this host.
    if _AUTHORITIES.is_dir():
        shutil.copytree(_AUTHORITIES, root / _AUTHORITIES.relative_to("/"), dirs_exist_ok=True)


def inside(root: Path, *command: str) -> list[str]:
    """Give the command line that runs ``command`` in the root; whoever kills it, or dies, ends all of it."""
    return [*_ALONE, sys.executable, "-m", "tests.release.newcomer_root", str(root), *command]


def environment() -> dict[str, str]:
    """Give what a newcomer's shell has, and what this host needs to find packages."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    kept |= {"HOME": "/root", "LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if any(_AUTHORITIES.glob("*.crt")):
        kept["NODE_EXTRA_CA_CERTS"] = "/etc/ssl/certs/ca-certificates.crt"
    return kept


def enter(root: str, command: Sequence[str], variables: Mapping[str, str]) -> None:
    """Become a program in the root. In namespaces of our own already: see :func:`inside`."""
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(root, root, None, kernel.MS_BIND)
    kernel.mount("proc", f"{root}/proc", "proc", 0)
    kernel.mount("/sys", f"{root}/sys", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("/dev", f"{root}/dev", None, kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("tmpfs", f"{root}/run", "tmpfs", 0)
    os.chdir(root)
    # The old root lies over the new one for a moment, and goes.
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir("/root")
    os.execvpe(command[0], list(command), dict(variables))


if __name__ == "__main__":
    enter(sys.argv[1], sys.argv[2:], environment())
