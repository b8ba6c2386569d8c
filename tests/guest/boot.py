"""Boot a Linux virtual machine with cgroup v2 on this host's own files, and run tests in it: ``make test-v2``.

For hosts whose controllers are bound to cgroup v1, as on the project's CI. QEMU emulates the machine (no KVM needed), the
kernel is Debian's, the root file system is this host's, read-only by 9p, with a tmpfs where tests write. Takes minutes,
so it is not a part of the gate.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = ("virtio_pci", "9pnet_virtio", "9p")
INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t devtmpfs dev /dev
while read module; do $B insmod /lib/$module; done < /order
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 root /mnt
for place in tmp run var/lib; do $B mount -t tmpfs t /mnt/$place; done
$B chmod 1777 /mnt/tmp
$B mount -t proc proc /mnt/proc; $B mount -t sysfs sys /mnt/sys; $B mount -t devtmpfs dev /mnt/dev
$B mount -t cgroup2 -o nsdelegate none /mnt/sys/fs/cgroup
exec $B switch_root /mnt /bin/bash -c "$($B cat /script)"
"""
SCRIPT = """export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp GAOLER_TEST_IMAGE_DIR={images}
ip link set lo up
cd {root}
{python} -m pytest -p no:cacheprovider -q --tb=short {selection}
echo "GUEST STATUS $?"
/bin/busybox poweroff -f
"""


def module_files(base: Path) -> list[Path]:
    """Give the files of the modules in the order in which they have to be loaded."""
    depends = {
        line.partition(":")[0]: line.partition(":")[2].split()
        for line in (base / "modules.dep").read_text().splitlines()
    }
    order: list[str] = []

    def add(path: str) -> None:
        for needed in reversed(depends[path]):
            add(needed)
        if path not in order:
            order.append(path)

    for name in MODULES:
        for path in depends:
            if Path(path).name.partition(".")[0] == name:
                add(path)
    return [base / path for path in order]


def initramfs(directory: Path, kernel: str, script: str) -> Path:
    """Pack a tiny first root: busybox, the modules, what to do."""
    tree = directory / "tree"
    for name in ("bin", "dev", "proc", "mnt", "lib"):
        (tree / name).mkdir(parents=True)
    (tree / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "bin" / "busybox").chmod(0o755)
    files = module_files(Path("/lib/modules") / kernel)
    for path in files:
        (tree / "lib" / path.name).write_bytes(path.read_bytes())
    (tree / "order").write_text("".join(f"{path.name}\n" for path in files))
    (tree / "script").write_text(script)
    (tree / "init").write_text(INIT)
    (tree / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names.encode(), capture_output=True, check=True
    )
    image = directory / "initrd.gz"
    image.write_bytes(gzip.compress(packed.stdout, 1))
    return image


def main() -> int:
    """Run the tests named by the arguments; the first one is the directory of the runtime images."""
    images, *selection = sys.argv[1:]
    kernels = sorted(Path("/boot").glob("vmlinuz-*"))
    if not kernels:
        print("no kernel in /boot: apt-get install linux-image-amd64", file=sys.stderr)
        return 1
    kernel = kernels[-1]
    quoted = " ".join(f"'{each}'" for each in selection)
    script = SCRIPT.format(images=images, root=ROOT, python=sys.executable, selection=quoted)
    with tempfile.TemporaryDirectory() as scratch:
        image = initramfs(Path(scratch), kernel.name.removeprefix("vmlinuz-"), script)
        machine = [
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-m",
            "6000",
            "-smp",
            "2",
            "-net",
            "none",
        ]
        machine += ["-nographic", "-no-reboot", "-kernel", str(kernel), "-initrd", str(image)]
        machine += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off"]
        machine += ["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"]
        status = 1
        with subprocess.Popen(
            machine, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
        ) as guest:
            for line in guest.stdout or ():
                print(line, end="", flush=True)
                if line.startswith("GUEST STATUS "):
                    status = int(line.split()[2])
    return status


if __name__ == "__main__":
    sys.exit(main())
