"""``gaoler doctor --seccomp``: every call that is not allowed is found in one run, whoever makes it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supervisor.policy import PACKAGED_POLICIES
from tests.daemon import Daemon
from tests.supervisor.test_cli import gaoler

HOSTILE = r"""
import ctypes, fcntl, os, socket, subprocess, threading
libc = ctypes.CDLL(None, use_errno=True)
threading.Thread(target=lambda: libc.syscall(101, 0, 0, 0, 0)).start()
for _ in range(3):
    libc.syscall(600)
if os.fork() == 0:
    libc.syscall(310, 0, 0, 0, 0, 0, 0)
    os._exit(0)
os.wait()
subprocess.run(["bash", "-c", "exec -a renamed python3 -c 'import ctypes; ctypes.CDLL(None).syscall(311, 0, 0, 0, 0, 0, 0)'"])
for attempt in (lambda: socket.socket(16, 3), lambda: fcntl.ioctl(0, 0x5423)):
    try:
        attempt()
    except OSError as error:
        print(error.errno)
os.sync()
print("end")
"""


def examined(image_dir: Path, program: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    done = gaoler(
        "doctor", "--seccomp", str(program), "--json", *arguments, GAOLER_IMAGE_DIR=str(image_dir), **environment
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if found["killed"] else 0)
    return found


@pytest.mark.root
def test_threads_children_and_programs_are_all_seen_and_nothing_is_left(
    image_dir: Path, tmp_path: Path, state_dir: Path
) -> None:
    program = tmp_path / "hostile.py"
    program.write_text(HOSTILE)
    found = examined(image_dir, program, TMPDIR=str(state_dir))
    assert list(state_dir.iterdir()) == []
    # What would kill was let through; what is refused was refused as ever.
    assert (found["status"], found["stdout"]) == (0, "97\n1\nend\n"), found
    killed = {need["call"]: need for need in found["killed"]}
    assert set(killed) == {"ptrace", "process_vm_readv", "process_vm_writev", "call 600"}
    assert killed["call 600"]["times"] == 3
    assert killed["ptrace"]["claims"] == ["K1", "K2"]
    assert killed["ptrace"]["rules"] == [
        "seccomp/languages/python.kafel: KILL_PROCESS",
        "seccomp/default.kafel: KILL_PROCESS",
    ]
    assert killed["process_vm_writev"]["suggestion"] == "ALLOW { process_vm_writev }"
    refused = {need["call"]: need for need in found["refused"]}
    assert refused["socket"]["arguments"] == {"0": "0x10"}
    assert refused["socket"]["rules"] == ["seccomp/default.kafel: ERRNO(97)"]
    assert refused["ioctl"]["arguments"] == {"1": "0x5423"}
    assert refused["ioctl"]["rules"] == ["seccomp/languages/python.kafel: ERRNO(1)"]
    assert refused["ioctl"]["claims"] == ["SECCOMP-LANGUAGE"]
    assert refused["ioctl"]["suggestion"] == "ALLOW { ioctl(a, b) { (b & 0xFFFFFFFF) == 0x5423 } }"
    assert refused["sync"]["verdict"] == "ERRNO(0)"
    assert "let through" in found["note"]


@pytest.mark.root
def test_a_person_reads_what_was_refused_on_purpose(image_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "hostile.py"
    program.write_text(HOSTILE)
    done = gaoler("doctor", "--seccomp", str(program), GAOLER_IMAGE_DIR=str(image_dir))
    assert done.returncode == 1
    assert "Logging mode: system calls that would have killed the program were let through" in done.stdout
    assert "ptrace (101): 1x in python3" in done.stdout
    assert "ALLOW { ptrace }," in done.stdout
    assert "WARNING: this holds for every sandbox. It refuses on purpose: ptrace [K1, K2]" in done.stdout


@pytest.mark.root
def test_why_a_program_failed_is_shown_without_its_control_characters(image_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "fails.py"
    program.write_text("import sys\nsys.exit('it \\x1b[31mfails')")
    done = gaoler("doctor", "--seccomp", str(program), "--policy", "packages", GAOLER_IMAGE_DIR=str(image_dir))
    assert done.stdout.startswith("fails.py: python, policy packages; ended with status 1\n")
    assert "  | it \N{REPLACEMENT CHARACTER}[31mfails\n" in done.stdout
    assert "Would be killed: nothing" in done.stdout


@pytest.mark.root
def test_a_binary_is_looked_at_under_the_profile_of_compiled_programs(image_dir: Path, tmp_path: Path) -> None:
    source = tmp_path / "p.c"
    source.write_text(
        "#include <stdio.h>\n#include <sys/mman.h>\nint main(int c, char **v) { mmap(0, 4096, 7, 0x22, -1, 0); puts(v[c - 1]); }"
    )
    binary = tmp_path / "a program's name"
    subprocess.run(["gcc", "-o", str(binary), str(source)], check=True)
    found = examined(image_dir, binary, "one", "--two words")
    assert found["stdout"] == "--two words\n", found
    assert [(need["call"], need["arguments"], need["profile"]) for need in found["refused"]] == [
        ("mmap", {"2": "0x7"}, "native")
    ]
    free = examined(image_dir, binary, "x", "--language", "javascript")
    assert free["refused"] == []


@pytest.mark.root
def test_a_suggestion_that_is_taken_up_is_enough(image_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "p.py"
    program.write_text("import ctypes\nprint(ctypes.CDLL(None).syscall(157, 62, 0, 0, 0, 0))")
    policies = tmp_path / "policies"
    shutil.copytree(PACKAGED_POLICIES, policies)
    (rule,) = [need["suggestion"] for need in examined(image_dir, program)["refused"] if need["call"] == "prctl"]
    profile = policies / "seccomp" / "languages" / "python.kafel"
    profile.write_text(profile.read_text().replace("USE left_to_the_policy", f"{rule},\n    USE left_to_the_policy"))
    found = examined(image_dir, program, GAOLER_JAILER_POLICY_DIR=str(policies))
    assert [need for need in found["refused"] if need["call"] == "prctl"] == []


@pytest.mark.root
def test_more_different_calls_than_can_be_listed_are_counted(image_dir: Path, tmp_path: Path) -> None:
    program = tmp_path / "many.py"
    program.write_text(
        "import ctypes\nlibc = ctypes.CDLL(None)\nfor n in range(1000, 1500): libc.syscall(n)\nprint('end')"
    )
    found = examined(image_dir, program)
    assert found["stdout"] == "end\n"
    assert len(found["killed"]) + len(found["refused"]) == 400
    assert found["left_out"] >= 100


@pytest.mark.root
def test_a_daemon_cannot_be_asked_for_it(daemon: Daemon) -> None:
    """No setting, no variable and no request leads to logging mode; a call that kills, kills."""
    done = gaoler("settings", "--json", GAOLER_IMAGE_DIR="/x")
    assert not [key for key in json.loads(done.stdout) if "watch" in key or "seccomp" in key]
    for field in ("watch", "seccomp", "watch_fd", "policy"):
        answer = daemon.try_execute("import ctypes; ctypes.CDLL(None).syscall(600); print('ESCAPED')", **{field: "off"})
        assert "ESCAPED" not in answer.body.decode()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--seccomp", "/no/such/program"], "/no/such/program"),
        (["--language", "python"], "--seccomp"),
        (["--seccomp", "/usr/bin/env", "--language", "klingon"], "klingon"),
        (["--seccomp", "/etc/hostname", "--policy", "none"], "none"),
    ],
)
def test_what_cannot_be_looked_at_is_said(arguments: list[str], named: str) -> None:
    done = gaoler("doctor", *arguments)
    assert done.returncode != 0
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_help_says_what_logging_mode_lets_through() -> None:
    text = " ".join(gaoler("doctor", "--help").stdout.split())
    assert "in this one run the calls that kill are let through" in text
    assert os.linesep not in text
