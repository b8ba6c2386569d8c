"""What is missing for virtual machines: pure, over what several hosts look like; and the doctor who tells it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from supervisor import doctor_microvm
from supervisor.microvm.availability import HostFacts, look, missing_in_image, missing_on_host, why_not
from supervisor.microvm.probe import Probe, judge
from supervisor.settings import MicrovmSettings, Settings, load
from tests.supervisor.test_cli import gaoler

INTEL = "processor\t: 0\nflags\t\t: fpu vme vmx ssse3\n"
AMD = "processor\t: 0\nflags\t\t: fpu svm sse\n"
GUEST_OF_A_CLOUD = "processor\t: 0\nflags\t\t: fpu vme hypervisor\n"
ON = MicrovmSettings(enabled=True)


def host(cpuinfo: str, *modules: str, kvm_node: bool = True, machine: str = "x86_64") -> HostFacts:
    return HostFacts(machine, cpuinfo, frozenset(modules), kvm_node)


@pytest.mark.parametrize(
    ("facts", "names"),
    [
        (host(INTEL, "kvm", "kvm_intel"), []),
        (host(AMD, "kvm", "kvm_amd"), []),
        # Built in, as some distributions have it.
        (host(INTEL), []),
        (host("Features : fp asimd\n", machine="aarch64"), []),
        (host(INTEL, kvm_node=False), ["kvm device"]),
        (host(GUEST_OF_A_CLOUD, kvm_node=False), ["processor", "kvm device"]),
        # The words are of a flag, not of a part of one.
        (host("flags\t\t: vmx_like nosvm\n"), ["processor"]),
        # A node that opens and answers proves nothing.
        (host(GUEST_OF_A_CLOUD, "kvm", "kvm_pvm"), ["kvm"]),
        (host(INTEL, "kvm", "kvm_pvm"), ["kvm"]),
    ],
)
def test_what_a_host_lacks_is_named_with_what_to_do(facts: HostFacts, names: list[str]) -> None:
    found = list(missing_on_host(facts))
    assert [each.name for each in found] == names
    assert all(each.found and each.fix for each in found)


def test_what_an_image_lacks_is_named(tmp_path: Path) -> None:
    assert [each.name for each in missing_in_image(ON, tmp_path)] == ["guest", "library", "kernel"]
    (tmp_path / "guest").mkdir()
    (tmp_path / "machine").mkdir()
    assert list(missing_in_image(ON, tmp_path)) == []
    (tmp_path / "libkrun.so").touch()
    own = MicrovmSettings(enabled=True, library=f"{tmp_path}/libkrun.so", kernel=f"{tmp_path}/none")
    (missing,) = missing_in_image(own, tmp_path)
    assert missing.found == f"microvm.kernel = {tmp_path}/none: there is no such file"


def test_the_reasons_are_told_together_and_the_switch_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "microvm.enabled" in why_not(MicrovmSettings(), tmp_path)
    monkeypatch.setattr("supervisor.microvm.availability.look", lambda: host(INTEL, kvm_node=False))
    assert why_not(ON, tmp_path).startswith("there is no /dev/kvm; the runtime image has no guest; ")
    monkeypatch.setattr("supervisor.microvm.availability.look", lambda: host(INTEL))
    for part in ("guest", "machine"):
        (tmp_path / part).mkdir()
    assert why_not(ON, tmp_path) == ""


def test_a_look_at_this_host_is_true() -> None:
    facts = look()
    assert facts.machine == os.uname().machine
    assert facts.kvm_node == Path("/dev/kvm").exists()
    assert ("kvm_pvm" in facts.modules) == Path("/sys/module/kvm_pvm").exists()


# -- the probe --

OURS = "Linux 6.1.0 #1 SMP Debian"


@pytest.mark.parametrize(
    ("said", "booted", "words"),
    [
        ("Linux 6.12.113 #1 SMP x\n", True, ""),
        (f"{OURS}\n", False, "on the host's kernel"),
        ("", False, "said ''"),
        ("bash: uname: not found\n", False, "said 'bash"),
        ("Linux 6.12\nLinux 6.13\n", False, "said 'Linux"),
    ],
)
def test_only_another_kernel_is_a_proof(said: str, booted: bool, words: str) -> None:
    found = judge(said, OURS, 1.234)
    assert found.booted == booted
    assert words in found.reason
    assert found.kernel == (said.strip() if booted else "")


# -- the doctor --


def examined(monkeypatch: pytest.MonkeyPatch, image_dir: Path, probe: Probe, **microvm: bool) -> doctor_microvm.Report:
    def boot(given: Settings) -> Probe:
        assert given.image_path == image_dir
        return probe

    monkeypatch.setattr(doctor_microvm, "boot", boot)
    flags = {"image_dir": str(image_dir), **{f"microvm.{name}": value for name, value in microvm.items()}}
    return doctor_microvm.examine(load(file=None, environment={}, flags=flags).settings)


@pytest.mark.root
def test_a_boot_decides_whatever_else_was_found(monkeypatch: pytest.MonkeyPatch, image_dir: Path) -> None:
    monkeypatch.setattr(doctor_microvm, "look", lambda: host(GUEST_OF_A_CLOUD, "kvm_pvm"))
    good = examined(monkeypatch, image_dir, Probe(booted=True, kernel="Linux 6.12.113", seconds=1.5), enabled=True)
    assert good.usable
    assert good.findings[-1].found == "a program ran on Linux 6.12.113, 1.5 s after the jailer's start"
    assert doctor_microvm.as_text(good).endswith(doctor_microvm.WORKS)
    bad = examined(monkeypatch, image_dir, Probe(booted=False, reason="nothing ran in it within 30 s"))
    assert not bad.usable
    said = doctor_microvm.as_text(bad)
    assert "note  settings: not switched on" in said
    assert "FAIL  kvm: kvm_pvm is loaded" in said
    assert "FAIL  boot of a probe: nothing ran in it within 30 s" in said
    assert msgspec.json.decode(doctor_microvm.as_json(bad), type=doctor_microvm.Report) == bad


@pytest.mark.root
def test_without_an_image_nothing_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = examined(monkeypatch, tmp_path, Probe(booted=True))
    assert not report.usable
    assert report.findings[-1].found == "not tried: there is no runtime image"


@pytest.mark.root
def test_the_command_boots_one_or_says_why_not(image_dir: Path) -> None:
    done = gaoler("doctor", "--microvm", "--json", GAOLER_IMAGE_DIR=str(image_dir), GAOLER_MICROVM_BOOT_SECONDS="5")
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["usable"] else 1), done.stderr
    by_name = {each["name"]: each for each in told["findings"]}
    assert by_name["boot of a probe"]["status"] == ("ok" if told["usable"] else "fail")
    assert by_name["boot of a probe"]["found"]
    if Path("/sys/module/kvm_pvm").exists():
        assert not told["usable"]
        assert "kvm_pvm is loaded" in by_name["kvm"]["found"]


def test_it_takes_nothing_that_is_of_something_else() -> None:
    assert gaoler("doctor", "--microvm", "--policy", "default").returncode == 2
