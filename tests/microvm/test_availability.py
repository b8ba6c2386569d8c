"""What is missing for virtual machines, the proof of one, and the doctor who tells of both."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from supervisor.doctor import microvm as doctor_microvm
from supervisor.microvm.availability import missing, why_not
from supervisor.microvm.findings import HostFacts, Node
from supervisor.microvm.krun import NEEDED
from supervisor.microvm.probe import Probe, judge
from supervisor.settings.loading import load
from supervisor.settings.sandboxes import MicrovmSettings
from supervisor.settings.tree import Settings
from tests.supervisor.test_cli import gaoler

ON = MicrovmSettings(enabled=True)
GOOD = HostFacts(
    "x86_64",
    "flags\t: fpu vmx\n",
    frozenset({"kvm_intel"}),
    Node(stat.S_IFCHR | 0o660, 36),
    'ID=debian\nNAME="Debian"\n',
)
PVM = replace(GOOD, modules=frozenset({"kvm", "kvm_pvm"}))


def library(path: Path) -> Path:
    """A file that has the functions of libkrun 1.17 by name."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0".join([b"", *(name.encode() for name in NEEDED), b""]))
    return path


def names(settings: MicrovmSettings, image: Path, facts: HostFacts = GOOD) -> list[str]:
    found = list(missing(settings, image, facts))
    assert all(each.found and each.fix for each in found)
    return [each.name for each in found]


def test_what_host_and_image_lack_is_named_with_what_to_do(tmp_path: Path) -> None:
    assert names(ON, tmp_path) == ["guest", "library"]
    assert names(ON, tmp_path, PVM) == ["kvm", "guest", "library"]
    (tmp_path / "guest").mkdir()
    library(tmp_path / "machine" / "libkrun.so.1.17.4")
    assert names(ON, tmp_path) == ["kernel"]
    (tmp_path / "machine" / "libkrunfw.so.5.6.1").touch()
    assert names(ON, tmp_path) == []
    assert names(ON, tmp_path, PVM) == ["kvm"]


def test_libraries_of_the_settings_are_taken_instead_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "guest").mkdir()
    own = str(library(tmp_path / "own" / "libkrun.so"))
    kernel = tmp_path / "own" / "libkrunfw.so.5"
    kernel.touch()
    both = MicrovmSettings(enabled=True, library=own, kernel=str(kernel))
    assert names(both, tmp_path) == []
    only = MicrovmSettings(enabled=True, library=own)
    assert names(only, tmp_path) == ["library"], "the kernel is the image's, which has none"
    library(tmp_path / "machine" / "libkrun.so.1")
    assert names(only, tmp_path) == ["kernel"]
    (tmp_path / "machine" / "libkrunfw.so.5").touch()
    assert names(only, tmp_path) == []
    gone = MicrovmSettings(enabled=True, library=own, kernel=f"{tmp_path}/none")
    (lacking,) = missing(gone, tmp_path, GOOD)
    assert (lacking.name, lacking.found) == ("kernel", f"microvm.kernel = {tmp_path}/none: there is no such file")


def test_the_reasons_are_told_together_and_the_switch_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "microvm.enabled" in why_not(MicrovmSettings(), tmp_path)
    monkeypatch.setattr("supervisor.microvm.availability.look", lambda: PVM)
    assert why_not(ON, tmp_path).startswith("kvm_pvm is loaded: ")
    assert "; the runtime image has no guest; " in why_not(ON, tmp_path)
    monkeypatch.setattr("supervisor.microvm.availability.look", lambda: GOOD)
    (tmp_path / "guest").mkdir()
    library(tmp_path / "machine" / "libkrun.so.1")
    (tmp_path / "machine" / "libkrunfw.so.5").touch()
    assert why_not(ON, tmp_path) == ""


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
    monkeypatch.setattr(doctor_microvm, "look", lambda: PVM)
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
def test_who_fails_to_boot_is_sent_to_what_was_found_or_told_that_nothing_was(
    monkeypatch: pytest.MonkeyPatch, image_dir: Path
) -> None:
    hung = Probe(booted=False, reason="the guest was not ready in 20 s")
    monkeypatch.setattr(doctor_microvm, "look", lambda: PVM)
    assert examined(monkeypatch, image_dir, hung).findings[-1].fix == "the lines above say what is missing"
    monkeypatch.setattr(doctor_microvm, "look", lambda: GOOD)
    fix = examined(monkeypatch, image_dir, hung).findings[-1].fix
    assert fix.startswith("nothing is missing that can be seen: on a slow host raise microvm.boot_seconds (now 20)")


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
