"""What hangs, with pytest itself: it is named, with where, and the next test runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests import gate
from tests.daemon import ROOT
from tests.gate import in_short

TESTS = """
import subprocess, sys, time
import pytest, trio

pytestmark = pytest.mark.time_limit(0.5)

def test_a_process_that_does_not_end():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)  # it sleeps"]) as process:
        try:
            process.wait()
        finally:
            process.kill()

async def forgotten():
    await trio.sleep_forever()

async def test_a_task_that_does_not_end():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(forgotten)

@pytest.fixture
def lasting():
    yield
    time.sleep(60)

def test_a_cleanup_that_does_not_end(lasting): pass

@pytest.mark.time_limit(60)
def test_one_that_may_take_longer():
    time.sleep(0.6)
"""


def test_what_hangs_is_named_with_where_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("from tests.time_limit import *")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "trio_mode=true",
        "-o",
        "markers=time_limit",
    ]
    command += ["-o", f"pythonpath={ROOT}", "--import-mode=importlib", "--junitxml=report.xml", "--rootdir=."]
    ran = subprocess.run([*command, "test_some.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stdout
    assert [line.split(" - ")[0] for line in in_short(ran.stdout)] == [
        "FAILED test_some.py::test_a_process_that_does_not_end",
        "FAILED test_some.py::test_a_task_that_does_not_end",
        "ERROR test_some.py::test_a_cleanup_that_does_not_end",
    ]
    said = {
        case.attrib["name"]: "".join(child.attrib["message"] + (child.text or "") for child in case)
        for case in ET.parse(tmp_path / "report.xml").iter("testcase")
    }
    process = said["test_a_process_that_does_not_end"]
    assert "test_some.py::test_a_process_that_does_not_end hangs: it has taken 0.5 seconds" in process
    assert "# it sleeps" in process
    task = said["test_a_task_that_does_not_end"]
    assert "task test_some.forgotten" in task
    assert "await trio.sleep_forever()" in task
    assert "hangs" in said["test_a_cleanup_that_does_not_end"]
    assert said["test_one_that_may_take_longer"] == ""


DEAF = """
import signal, time

def test_that_is_deaf():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    print("ERROR gaoler.jailer this names no test", flush=True)
    time.sleep(60)
"""


def test_the_end_of_the_gate_names_where_a_deaf_test_was_broken_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_some.py").write_text(DEAF)
    command = [sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", "--rootdir=.", "test_some.py"]
    command += ["-o", "faulthandler_timeout=1", "-o", "faulthandler_exit_on_timeout=true"]
    ran = subprocess.run(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert ran.returncode == 1, ran.stdout
    monkeypatch.setattr(gate, "TESTS", tmp_path)
    assert f'File "{tmp_path}/test_some.py", line 7 in test_that_is_deaf' in in_short(ran.stdout)[0]
