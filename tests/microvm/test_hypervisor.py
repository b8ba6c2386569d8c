"""Which hypervisor the tests take, and what they say where the one that was asked for is not to be had."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from supervisor.doctor.host import Finding
from supervisor.doctor.microvm import Report
from supervisor.microvm.vmm import read_fault
from tests.microvm import hypervisor
from tests.microvm.hypervisor import VARIABLE, NoMachines

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = Path("/nonexistent/images")
BOOTS = Report(usable=True, findings=[Finding("boot of a probe", "ok", "a program ran")])
BOOTS_NOT = Report(
    usable=False,
    findings=[Finding("settings", "note", "not switched on"), Finding("kvm", "fail", "kvm_pvm is loaded", "use metal")],
)


@pytest.fixture(autouse=True)
def _forget() -> None:
    hypervisor.chosen.cache_clear()


def probe(monkeypatch: pytest.MonkeyPatch, report: Report, *, missing: bool = False) -> list[Path]:
    """Have the doctor say this; give the list of those who asked it."""
    asked: list[Path] = []

    def examined(image_dir: Path) -> Report:
        asked.append(image_dir)
        return report

    monkeypatch.setattr(hypervisor, "examined", examined)
    monkeypatch.setattr(hypervisor, "missing_on_host", lambda _facts: iter(["something"] if missing else []))
    return asked


def test_qemu_is_taken_without_a_probe_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "qemu")
    asked = probe(monkeypatch, BOOTS)
    assert hypervisor.chosen(IMAGES) == "qemu"
    assert asked == []


def test_libkrun_is_taken_where_a_probe_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    asked = probe(monkeypatch, BOOTS)
    assert hypervisor.chosen(IMAGES) == "libkrun"
    assert hypervisor.chosen(IMAGES) == "libkrun"
    assert asked == [IMAGES], "it is booted once for all tests"


def test_qemu_is_taken_where_no_probe_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert probe(monkeypatch, BOOTS_NOT) == []
    assert hypervisor.chosen(IMAGES) == "qemu"


def test_no_probe_is_booted_where_the_host_is_known_to_lack_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    asked = probe(monkeypatch, BOOTS, missing=True)
    assert hypervisor.chosen(IMAGES) == "qemu"
    assert asked == []


def test_who_insists_on_libkrun_gets_it_or_the_doctors_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "libkrun")
    probe(monkeypatch, BOOTS_NOT, missing=True)
    with pytest.raises(NoMachines) as refusal:
        hypervisor.chosen(IMAGES)
    assert "kvm: kvm_pvm is loaded -> use metal" in str(refusal.value)
    assert "switched on" not in str(refusal.value), "a note keeps nothing from booting"
    probe(monkeypatch, BOOTS)
    assert hypervisor.chosen(IMAGES) == "libkrun"


def test_another_word_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "xen")
    with pytest.raises(ValueError, match="'xen': libkrun, qemu, or nothing"):
        hypervisor.chosen(IMAGES)


def test_a_doctor_that_says_nothing_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "libkrun")
    monkeypatch.setattr(hypervisor, "_ROOT", tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NoMachines, match="the doctor ended with 1"):
        hypervisor.chosen(IMAGES)


def test_the_stand_in_is_named_only_where_it_is_wanted() -> None:
    assert hypervisor.program("qemu")[-1] == "tests.microvm.stand_in"
    assert hypervisor.program("libkrun")[-1] == "supervisor"


@pytest.mark.root
def test_libkrun_is_told_where_the_tests_have_put_a_guest_together(image_dir: Path, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    log_read, log_write = os.pipe()
    config = os.memfd_create("machine", 0)
    os.write(config, msgspec.msgpack.encode({"memory_mib": 256, "vcpus": 1}))
    fds = (config, theirs.fileno(), log_write)
    local = (image_dir / "current").resolve() / "local"
    told = [sys.executable, "-m", "tests.microvm.root", "libkrun", str(tmp_path), "-", str(local), *map(str, fds)]
    with ours, theirs:
        done = subprocess.run(told, pass_fds=fds, cwd=ROOT, capture_output=True, check=False)
    for fd in (log_read, log_write, config):
        os.close(fd)
    fault = read_fault(done.stderr)
    assert fault is not None, done.stderr
    # The guest's root is looked at before that, and was there.
    assert fault.kind == "library-missing"
    assert str(tmp_path) in fault.reason
