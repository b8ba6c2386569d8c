"""Disks of virtual machines with systemd: Debian by mmdebstrap, with Gaoler's environment and a runtime image, cached.

Everything that needs the network or much work happens here, at full speed, in a root that is entered by ``pivot_root``
(a chroot may make no user namespace, and the image's build tries sandboxes); the emulated machine only boots it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from supervisor.image.apt_sources import read_apt
from supervisor.image.steps import run_program

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CACHE: Final = ROOT / ".cache" / "systemd"
PACKAGES: Final = (
    *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "procps", "iproute2", "curl", "ca-certificates", "zstd"),
    *("python3", "python3-venv", "catatonit", "initramfs-tools", "linux-image-cloud-amd64"),
)
FLEET: Final = {"trixie": ("redis-server",)}
"""What a fleet needs beside that, in the release in which one is run; nothing of it is started by itself."""
SOURCES: Final = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "supervisor",
    "http_api",
    "mcp_server",
    "egress",
    "policies",
    "systemd",
)
ENTER: Final = """
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs tmp
for file in /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt; do
  touch ".$file"; mount --bind "$(readlink -f "$file")" ".$file"
done
mkdir -p mnt tmp/given
mount --bind "$1" tmp/given; shift
pivot_root . mnt
cd /
umount -l /mnt
exec "$@"
"""
INSTALL: Final = """
set -e
python3 -m venv /opt/gaoler
/opt/gaoler/bin/pip install -q --disable-pip-version-check --require-hashes -r /tmp/given/requirements.lock
/opt/gaoler/bin/pip install -q --disable-pip-version-check --no-deps /tmp/given/*.whl
/opt/gaoler/bin/gaoler image build --languages python,bash --only
/opt/gaoler/bin/pip uninstall -q -y gaoler
rm -rf /root/.cache
"""
AGENT: Final = (Path(__file__).parent / "agent.py").read_text()
AGENT_UNIT: Final = """[Unit]
DefaultDependencies=no
After=sysinit.target dbus.socket
[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/agent.py
Restart=always
"""
SETTINGS: Final = """# An emulated processor: few cells, one after the other.
[cells]
floor = 1
bare_floor = 1
[jailer]
builders = 1
"""


@dataclass(frozen=True)
class Disk:
    """What a machine boots: nothing of it is changed by that."""

    image: Path
    kernel: Path
    initrd: Path


def disk(suite: str) -> Disk:
    """Give the disk of a release of Debian, made at the first time. Root; minutes."""
    inputs = [Path(__file__).read_text(), AGENT, (ROOT / "requirements.lock").read_text()]
    inputs += [(ROOT / "supervisor/runtimes/python/packages.lock").read_text(), suite]
    directory = CACHE / f"{suite}-{hashlib.sha256(''.join(inputs).encode()).hexdigest()[:16]}"
    if not directory.exists():
        for stale in CACHE.glob(f"{suite}-*"):
            shutil.rmtree(stale)
        building = CACHE / f"building-{suite}"
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        _build(suite, building)
        building.rename(directory)
    return Disk(directory / "disk.ext4", directory / "vmlinuz", directory / "initrd")


def _build(suite: str, building: Path) -> None:
    root, given = building / "root", building / "given"
    _debootstrap(suite, building, root)
    given.mkdir()
    build_wheel(given)
    shutil.copy(ROOT / "requirements.lock", given)
    _run(
        [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            ENTER,
            "sh",
            str(root),
            str(given),
            "sh",
            "-c",
            INSTALL,
        ]
    )
    (root / "etc/hostname").write_text("guest\n")
    for path, text in {
        "usr/local/lib/agent.py": AGENT,
        "etc/systemd/system/agent.service": AGENT_UNIT,
        "etc/gaoler/gaoler.toml": SETTINGS,
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    wants = root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "agent.service").symlink_to("../agent.service")
    for masked in ("serial-getty@ttyS0.service", "getty.target", "systemd-networkd-wait-online.service"):
        (root / "etc/systemd/system" / masked).symlink_to("/dev/null")
    for service in FLEET.get(suite, ()):
        (root / f"etc/systemd/system/multi-user.target.wants/{service}.service").unlink()
    for name in ("vmlinuz", "initrd"):
        shutil.copy(next((root / "boot").glob(f"{name}*")), building / name)
    _run(["mkfs.ext4", "-q", "-m0", "-O", "^has_journal", "-d", str(root), str(building / "disk.ext4"), "5G"])
    shutil.rmtree(root)
    shutil.rmtree(given)


def _debootstrap(suite: str, building: Path, root: Path) -> None:
    places = read_apt(suite, platform.freedesktop_os_release(), run_program)
    (building / "gaoler.sources").write_text(places.sources)
    (building / "options").write_text(places.options)
    without = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
    command = ["mmdebstrap", "--mode=root", "--format=directory", "--variant=minbase", *without]
    command += [f"--aptopt={building / 'options'}", f"--include={','.join((*PACKAGES, *FLEET.get(suite, ())))}"]
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "env", "LC_ALL=C.UTF-8"]
    _run([*alone, *command, suite, str(root), str(building / "gaoler.sources")])


def build_wheel(target: Path, version: str | None = None) -> Path:
    """Build our wheel from the sources as they are, as another version if one is named."""
    copy = target / "source"
    copy.mkdir(parents=True)
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    if version is not None:
        stated = copy / "supervisor" / "__init__.py"
        text, count = re.subn(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', stated.read_text())
        assert count == 1, stated
        stated.write_text(text)
    _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(target), str(copy)])
    shutil.rmtree(copy)
    return max(target.glob("*.whl"), key=lambda path: path.stat().st_mtime_ns)


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command[:8], done.stdout[-2000:], done.stderr[-4000:])


def _environment() -> dict[str, str]:
    """Ours, with what pip is told in files that a root of its own does not have, but for directories of this host."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("GAOLER_", "PYTHON"))}
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    for name, value in re.findall(r"^global\.([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE):
        if name in ("cert", "index-url", "proxy", "trusted-host", "timeout"):
            found.setdefault(f"PIP_{name.replace('-', '_').upper()}", value)
    return found
