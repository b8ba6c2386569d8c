"""A booted systemd: a virtual machine, emulated, in which scripts are run by an agent on a port."""

from __future__ import annotations

import json
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from tests.systemd.root import disk

BOOT_SECONDS: Final = 300
ANSWER_SECONDS: Final = 420
MEMORY_MIB: Final = 3000


@dataclass
class Machine:
    """It runs; nothing that it does reaches the disk that it was booted from."""

    suite: str
    port: TextIO

    def run(self, script: str) -> str:
        """Run a script of bash as root, which has to succeed; give what it printed."""
        status, output = self.attempt(script)
        assert status == 0, f"{script}\n-> {status}\n{output}"
        return output

    def attempt(self, script: str) -> tuple[int, str]:
        """Run a script; give its status and what it printed."""
        began = time.monotonic()
        print(json.dumps({"script": script}), file=self.port, flush=True)
        answer = json.loads(self.port.readline())
        # Emulated machines are slow: who waits for these tests sees what they do.
        print(f"[{self.suite} {time.monotonic() - began:5.1f} s, status {answer['status']}] {script[:100]}", flush=True)
        return answer["status"], answer["output"]

    def until(self, condition: str, seconds: int = 240) -> None:
        """Wait until a command in the machine succeeds."""
        status, output = self.attempt(
            f"for i in $(seq {seconds}); do if ({condition}); then exit 0; fi; sleep 1; done; "
            "systemctl status 'gaoler*.service' --no-pager; journalctl -u 'gaoler*' --no-pager -o cat -n 60; exit 1"
        )
        assert status == 0, f"{condition}\n{output}"


@contextmanager
def booted(suite: str, given: Sequence[Path], *, outside: bool = False) -> Iterator[Machine]:
    """Have a machine for the block. The files ``given`` are in its ``/given``.

    ``outside``: it has a network device, still down, behind which 10.0.2.2 is the loopback of this host.
    """
    base = disk(suite)
    network = ("-nic", "user,model=virtio-net-pci,ipv6=off") if outside else ("-net", "none")
    with tempfile.TemporaryDirectory(prefix="gt-vm-") as scratch:
        path, archive = Path(scratch, "agent"), Path(scratch, "given.tar")
        with tarfile.open(archive, "w") as tar:
            for file in given:
                tar.add(file, file.name)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(BOOT_SECONDS)
        with subprocess.Popen(
            [
                *(
                    "qemu-system-x86_64",
                    "-accel",
                    "tcg,thread=multi",
                    "-cpu",
                    "max",
                    "-smp",
                    "2",
                    "-m",
                    str(MEMORY_MIB),
                ),
                *(
                    "-nodefaults",
                    *network,
                    "-display",
                    "none",
                    "-no-reboot",
                    "-serial",
                    f"file:{scratch}/console",
                ),
                *("-kernel", str(base.kernel), "-initrd", str(base.initrd)),
                *("-append", "root=/dev/vda rw console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"),
                *("-drive", f"file={base.image},format=raw,if=virtio,snapshot=on,cache=unsafe"),
                *("-drive", f"file={archive},format=raw,if=virtio,readonly=on"),
                *("-device", "virtio-rng-pci", "-device", "virtio-serial"),
                *("-chardev", f"socket,id=agent,path={path}", "-device", "virtserialport,chardev=agent,name=agent"),
            ],
            stdin=subprocess.DEVNULL,
        ) as process:
            try:
                connection = listener.accept()[0]
                connection.settimeout(max(BOOT_SECONDS, ANSWER_SECONDS))
                with listener, connection, connection.makefile("rw") as port:
                    assert json.loads(port.readline()) == {"ready": True}, Path(scratch, "console").read_text()[-3000:]
                    machine = Machine(suite, port)
                    machine.run("mkdir -p /given && tar -x -C /given -f /dev/vdb")
                    machine.until("systemctl is-system-running | grep -Eq 'running|degraded'")
                    yield machine
            finally:
                process.kill()
