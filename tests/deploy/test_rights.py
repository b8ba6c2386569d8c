"""The rights that the deployment files give are enough: real processes with exactly those, in namespaces of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.daemon import image_path
from tests.deploy.reading import DEPLOY, ROOT
from tests.deploy.test_compose import SERVICES
from tests.open_way import OPEN_WAY

pytestmark = pytest.mark.root
NO_RIGHTS = [
    "setpriv",
    "--reuid=10001",
    "--regid=10001",
    "--clear-groups",
    "--bounding-set=-all",
    "--inh-caps=-all",
    "--no-new-privs",
]
PREPARE = """
from supervisor.preparation.gateway import prepare_gateway
from supervisor.settings.loading import load, process_environment
prepared = prepare_gateway(load(file=None, environment=process_environment(), flags={}).settings)
print("prepared", prepared.settings.fleet.role, prepared.signing_key[0])
prepared.connector.close()
"""


JOIN = """
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/gaoler-rights-test
    echo "+cpu +memory +pids" > /sys/fs/cgroup/cgroup.subtree_control
    echo 0 > /sys/fs/cgroup/gaoler-rights-test/cgroup.procs
fi
exec unshare --cgroup sh -euc "$@"
"""
"""With cgroup v2 a container has a group of its own with nobody else in it, and sees that as the root."""
CGROUPS = """
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    mount -o remount,bind,ro /sys/fs/cgroup
    ! mkdir /sys/fs/cgroup/written 2>/dev/null
fi
"""


def in_namespaces(script: str, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``script`` as root in a mount, a process and a cgroup namespace, then the command in its place."""
    return subprocess.run(
        [
            *OPEN_WAY,
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--propagation",
            "private",
            "sh",
            "-euc",
            JOIN,
            "sh",
            f'{script}\nexec "$@"',
            "sh",
            *command,
        ],
        env={"PATH": os.environ["PATH"]} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_gateway_is_prepared_by_nobody_on_a_read_only_root(tmp_path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "k1.pem").write_bytes(pem)
    environment = {name: str(value) for name, value in SERVICES["gateway-1"]["environment"].items()} | {
        "GAOLER_BIND": "127.0.0.1:0",
        "GAOLER_STATE_DIR": "/tmp/state",
        "GAOLER_FLEET_SIGNING_KEY": "/tmp/keys/k1.pem",
    }
    # The directories of pytest are closed to others, so the test's own world has them in its /tmp.
    world = f"""
        mount -t proc proc /proc
        mount -o remount,bind,ro /
        keys=$(cat {tmp_path}/k1.pem)
        mount -t tmpfs -o mode=1777 tmpfs /tmp
        mkdir -p /tmp/keys /tmp/state
        echo "$keys" > /tmp/keys/k1.pem
        chown -R 10001:10001 /tmp/keys /tmp/state
        ! touch /usr/written 2>/dev/null"""
    done = in_namespaces(world, [*NO_RIGHTS, sys.executable, "-c", PREPARE], environment)
    assert done.stdout == "prepared gateway k1\n", done.stderr


def test_a_worker_makes_sandboxes_with_its_capabilities_and_no_other(tmp_path: Path) -> None:
    if not (image_path() / "current").exists():
        pytest.skip("there is no runtime image")
    kept = ",".join(f"+{name.lower()}" for name in SERVICES["worker"]["cap_add"])
    program = tmp_path / "program.py"
    program.write_text("print(6 * 7)")
    # What container runtimes cover, each in its way.
    world = """
        mount -t proc proc /proc
        mount --bind /dev/null /proc/keys
        mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys"""
    world += CGROUPS
    command = ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", str(DEPLOY / "container" / "worker-entry")]
    gaoler = [sys.executable, "-m", "supervisor", "run", str(program)]
    environment = {"GAOLER_IMAGE_DIR": str(image_path()), "GAOLER_STATE_DIR": str(tmp_path / "state")}
    done = in_namespaces(world, [*command, *gaoler], environment)
    assert done.stdout == "42\n", done.stderr
