"""deploy/container: the images are made of what is there, and what runs in them does what it says."""

from __future__ import annotations

import http.server
import os
import re
import shlex
import shutil
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.jailer.cgroup_subtree import mount_points
from tests.deploy.reading import DEPLOY, ROOT, VARIABLES, parses

CONTAINER = DEPLOY / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text().replace("\\\n", "")
SCRIPTS = sorted(
    path
    for path in DEPLOY.rglob("*")
    if path.is_file() and path.read_bytes().startswith((b"#!/bin/bash", b"#!/bin/sh"))
)


def instructions(name: str) -> list[str]:
    return [line.removeprefix(name).strip() for line in DOCKERFILE.splitlines() if line.startswith(name + " ")]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    kept = {
        line[1:] for line in (CONTAINER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [words.split()[:-1] for words in instructions("COPY") if not words.startswith("--from=")]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
        assert any(path == each or path.startswith(each + "/") for each in kept), path


def test_all_of_our_packages_are_in_the_image() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    copied = {words.split()[0] for words in instructions("COPY")}
    assert packages <= copied
    assert {project["project"]["readme"], *project["project"]["license-files"], "requirements.lock"} <= {
        word for words in instructions("COPY") for word in words.split()
    }


def test_packages_come_with_their_hashes() -> None:
    installs = [line for line in instructions("RUN") if "pip install" in line]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_variables_of_the_images_are_settings() -> None:
    named = re.findall(r"\b(GAOLER_[A-Z_]+)=", DOCKERFILE)
    assert named
    assert set(named) <= VARIABLES


def test_a_gateway_is_nobody_and_a_worker_runs_through_its_entry() -> None:
    gateway, worker = (DOCKERFILE.split(f"AS {name}\n")[1].split("\nFROM ")[0] for name in ("gateway", "worker-base"))
    assert "USER 10001:10001" in gateway
    assert "USER" not in worker
    assert '"/opt/gaoler/bin/worker-entry", "/opt/gaoler/bin/gaoler"]' in worker
    assert 'CMD ["serve"]' in gateway
    assert parses(["serve"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_well_formed(script: Path) -> None:
    shell = "bash" if script.read_text().startswith("#!/bin/bash") else "sh"
    assert subprocess.run([shell, "-n", script], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    assert re.search(r"^set -eu", script.read_text(), re.MULTILINE)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script: Path) -> None:
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_building_images_is_shown_without_being_done() -> None:
    script = CONTAINER / "build-images"
    done = subprocess.run(
        [script, "--dry-run", "--tag", "1", "--", "--languages", "go"], capture_output=True, text=True, check=True
    )
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["docker", word] for word in ("build", "build", "run", "commit", "rm")]
    targets = [line[line.index("--target") + 1] for line in lines[:2]]
    assert all(f" AS {target}\n" in DOCKERFILE for target in targets)
    command = lines[2][lines[2].index("gaoler-worker-base:1") + 1 :]
    assert command == ["image", "build", "--languages", "go"]
    assert parses(command)
    assert lines[3][-1] == "gaoler-worker:1"


def test_an_unknown_option_of_the_build_is_refused() -> None:
    done = subprocess.run([CONTAINER / "build-images", "--dry-rum"], capture_output=True, check=False)
    assert done.returncode == 64


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/ready" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def healthy(port: int, *arguments: str) -> int:
    # The interpreter of its first line is the image's.
    command = ["python3", "-I", str(CONTAINER / "healthy"), *arguments]
    environment = {"PATH": os.environ["PATH"], "GAOLER_BIND": f"0.0.0.0:{port}"}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_health_is_what_the_daemon_answers() -> None:
    with answering(200) as port:
        assert healthy(port) == 0
    with answering(503) as port:
        assert healthy(port) == 1
        assert healthy(port, "--alive") == 0
    assert healthy(port, "--alive") == 1


def in_container(script: str, *arguments: str) -> str:
    """Run a shell in mount, process and cgroup namespaces of its own, without capabilities that a worker has not."""
    kept = "-all,+sys_admin,+chown,+dac_override,+kill,+setgid,+setuid,+setpcap"
    command = ["unshare", "--mount", "--pid", "--fork", "--cgroup", "--propagation", "private"]
    command += ["setpriv", f"--bounding-set={kept}", "--inh-caps=-all", "sh", "-euc", script, "sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.root
def test_the_entry_of_a_worker_uncovers_proc_for_its_container(tmp_path: Path) -> None:
    # A device stands before what is covered, as container runtimes do it.
    covered = "mount -t proc proc /proc; mount --bind /dev/null /proc/keys; test -c /proc/keys"
    script = f'{covered}; CGROUPS={tmp_path} exec {CONTAINER / "worker-entry"} sh -c "test -f /proc/keys && echo whole"'
    assert in_container(script) == "whole\n"


@pytest.mark.root
@pytest.mark.skipif("unified" not in mount_points(), reason="there is no cgroup v2 here")
def test_the_entry_of_a_worker_makes_its_cgroups_writable_and_its_root_empty(tmp_path: Path) -> None:
    group = mount_points()["unified"] / f"gaoler-entry-test-{os.getpid()}"
    group.mkdir()
    try:
        joined = f"echo 0 > {group}/cgroup.procs; sleep 1000 & mount --bind {group} {tmp_path}"
        read_only = f"mount -o remount,bind,ro {tmp_path}; ! mkdir {tmp_path}/x 2>/dev/null"
        look = f"wc -l < {tmp_path}/cgroup.procs; wc -l < {tmp_path}/container/cgroup.procs; mkdir {tmp_path}/gaoler"
        script = f'{joined}; {read_only}; CGROUPS={tmp_path} exec {CONTAINER / "worker-entry"} sh -c "{look}"'
        left, moved = map(int, in_container(script).split())
        assert left == 0
        assert moved >= 2
        assert (group / "gaoler").is_dir()
    finally:
        for each in (group / "gaoler", group / "container", group):
            if each.is_dir():
                each.rmdir()
