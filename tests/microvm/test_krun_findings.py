"""What a host lacks, over what hosts of several kinds show: each named with what to do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from supervisor.microvm.findings import (
    HostFacts,
    Missing,
    Node,
    how_to_get,
    look,
    missing_functions,
    missing_libraries,
    missing_on_host,
)
from supervisor.microvm.krun import KERNEL, LIBRARY, NEEDED, Libraries, find_libraries
from tests.microvm.machine_parts import machine_libraries

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de vmx smx est\nbugs\t\t: spectre_v1\n"
AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu vme svm npt\n"
FIRMWARE_OFF = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme de\nvmx flags\t: vnmi\n"
CLOUD = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vme hypervisor lahf_lm\n"
NESTED = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu vmx hypervisor\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm\n"
USUAL = Node(stat.S_IFCHR | 0o660, 107)

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n'
UBUNTU = 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n'
FEDORA = 'NAME="Fedora Linux"\nID=fedora\nVERSION_ID=43\n'
ROCKY = 'NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\n'
ARCH = 'NAME="Arch Linux"\nID=arch\n'
MANJARO = 'NAME="Manjaro Linux"\nID=manjaro\nID_LIKE=arch\n'
TUMBLEWEED = 'NAME="openSUSE Tumbleweed"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\n'
NIXOS = "NAME=NixOS\nID=nixos\n"


def host(
    cpuinfo: str, *modules: str, kvm: Node | None = USUAL, machine: str = "x86_64", os_release: str = DEBIAN
) -> HostFacts:
    return HostFacts(machine, cpuinfo, frozenset(modules), kvm, os_release)


@pytest.mark.parametrize(
    "facts",
    [
        host(INTEL, "kvm", "kvm_intel"),
        host(AMD, "kvm", "kvm_amd"),
        host(NESTED, "kvm", "kvm_intel"),
        # Built in, without parameters to be seen.
        host(INTEL),
        host(INTEL, "kvm", "kvm_intel", kvm=Node(stat.S_IFCHR | 0o666, 0)),
    ],
)
def test_a_host_that_may_do_lacks_nothing(facts: HostFacts) -> None:
    assert list(missing_on_host(facts)) == []


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (
            host(CLOUD, "kvm", "kvm_pvm"),
            [("kvm", "kvm_pvm is loaded", "a host of bare metal, or one whose provider gives it nested")],
        ),
        (host(INTEL, "kvm", "kvm_pvm"), [("kvm", "kvm_pvm is loaded", "bare metal")]),
        (
            host(FIRMWARE_OFF, "kvm", kvm=None),
            [("processor", "neither vmx nor svm", "in the firmware"), ("kvm device", "no /dev/kvm", "load the module")],
        ),
        (host(CLOUD), [("processor", "a virtual machine itself", "its provider switch on nested virtualisation")]),
        (
            host(INTEL, kvm=None),
            [
                ("kvm", "has vmx, and kvm_intel is not loaded", "modprobe kvm_intel"),
                ("kvm device", "no /dev/kvm", "pass the device"),
            ],
        ),
        (
            host(AMD, "kvm", kvm=None),
            [("kvm", "has svm, and kvm_amd is not loaded", "modprobe kvm_amd"), ("kvm device", "no /dev/kvm", "load")],
        ),
        # In a container the host's modules are seen, and its device is not.
        (host(INTEL, "kvm", "kvm_intel", kvm=None), [("kvm device", "no /dev/kvm", "in a container, pass the device")]),
        (host(INTEL, "kvm", "kvm_intel", kvm=Node(stat.S_IFREG | 0o660, 107)), [("kvm device", "no device", "remove")]),
        (
            host(INTEL, "kvm", "kvm_intel", kvm=Node(stat.S_IFCHR | 0o600, 0)),
            [("kvm device", "mode 0600 and group 0: only root", 'GROUP="kvm", MODE="0660"')],
        ),
        (
            host(INTEL, "kvm", "kvm_intel", kvm=Node(stat.S_IFCHR | 0o660, 0)),
            [("kvm device", "mode 0660 and group 0: only root", "udevadm")],
        ),
        (host(INTEL, "kvm", kvm=Node(stat.S_IFCHR | 0o640, 107)), [("kvm device", "mode 0640 and group 107", "udev")]),
        (
            host(ARM, "kvm", machine="aarch64"),
            [("processor", "this is aarch64; virtual machines are for x86_64", "use")],
        ),
        (host("", kvm=None), [("processor", "neither", "firmware"), ("kvm device", "no /dev/kvm", "load")]),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(facts: HostFacts, wanted: list[tuple[str, str, str]]) -> None:
    found = list(missing_on_host(facts))
    assert [each.name for each in found] == [name for name, _, _ in wanted]
    for each, (_, words, fix) in zip(found, wanted, strict=True):
        assert words in each.found
        assert fix in each.fix


@pytest.mark.parametrize(
    ("os_release", "words"),
    [
        (FEDORA, "dnf install libkrun libkrunfw, 1.17 or later, and microvm.library"),
        (ROCKY, "dnf install"),
        (ARCH, "pacman -S libkrun libkrunfw"),
        (MANJARO, "pacman -S"),
        (TUMBLEWEED, "zypper install libkrun libkrunfw"),
        (NIXOS, "libkrun and libkrunfw in environment.systemPackages"),
        (DEBIAN, "Debian GNU/Linux has no package of it"),
        (UBUNTU, "Ubuntu has no package of it"),
        ("", "this system has no package of it"),
    ],
)
def test_how_to_get_the_libraries_is_said_for_each_distribution(os_release: str, words: str) -> None:
    said = how_to_get(os_release)
    assert said.startswith("gaoler image build --microvm brings it; ")
    assert words in said


def test_missing_libraries_are_named_with_the_place(tmp_path: Path) -> None:
    facts = host(INTEL, os_release=FEDORA)

    def find() -> Libraries:
        return find_libraries([tmp_path])

    assert list(missing_libraries(facts, find)) == [
        Missing("library", f"no {LIBRARY} in {tmp_path}", how_to_get(FEDORA)),
    ]
    (tmp_path / LIBRARY).write_bytes(b"\0".join([b"", *(name.encode() for name in NEEDED), b""]))
    (missing,) = missing_libraries(facts, find)
    assert (missing.name, missing.found) == ("kernel", f"no {KERNEL}, the guest's kernel, in {tmp_path}")
    (tmp_path / KERNEL).touch()
    assert list(missing_libraries(facts, find)) == []
    (tmp_path / LIBRARY).write_bytes(b"\0krun_add_vsock_port\0krun_create_ctx\0")
    (old,) = missing_libraries(facts, find)
    assert old.found == f"{tmp_path / LIBRARY} is older than 1.17: it has no krun_init_log"


def test_the_pinned_library_is_new_enough() -> None:
    libraries = find_libraries([machine_libraries()])
    assert missing_functions(libraries.hypervisor.read_bytes()) == []
    assert missing_functions(libraries.kernel.read_bytes()) == list(NEEDED)
    assert list(missing_libraries(host(INTEL), lambda: libraries)) == []


def test_a_host_is_looked_at_below_a_root(tmp_path: Path) -> None:
    assert look(tmp_path, "x86_64") == HostFacts("x86_64", "", frozenset(), None, "")
    for name, text in (("proc/cpuinfo", INTEL), ("usr/lib/os-release", ARCH), ("dev/kvm", "")):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "sys/module/kvm_intel").mkdir(parents=True)
    (tmp_path / "sys/module/loop").mkdir()
    facts = look(tmp_path, "x86_64")
    assert (facts.cpuinfo, facts.modules, facts.os_release) == (INTEL, frozenset({"kvm_intel"}), ARCH)
    assert facts.kvm is not None
    assert [each.found for each in missing_on_host(facts)] == ["/dev/kvm is no device"]


def test_this_host_can_be_looked_at() -> None:
    facts = look()
    assert facts.cpuinfo
    assert all(each.found and each.fix for each in missing_on_host(facts))
