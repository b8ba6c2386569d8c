"""The libraries: found, refused when they are not what they should be, and every call checked. Needs no KVM."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.microvm.krun import (
    KERNEL,
    LIBRARY,
    NEEDED,
    USUAL_PLACES,
    Libraries,
    MachineFault,
    find_libraries,
)
from tests.microvm.machine_parts import machine_libraries


def put(directory: Path, *names: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in names:
        (directory / name).touch()
    return directory


def test_the_first_place_counts_for_each(tmp_path: Path) -> None:
    one = put(tmp_path / "one", KERNEL)
    two = put(tmp_path / "two", LIBRARY, KERNEL)
    assert find_libraries([tmp_path / "none", one, two]) == Libraries(two / LIBRARY, one / KERNEL)
    assert USUAL_PLACES[0] == "/machine"


def test_without_the_plain_name_the_highest_version_counts(tmp_path: Path) -> None:
    names = ["libkrun.so.1.9.0", "libkrun.so.1.17.4", "libkrun.so.1.17.4.sig", "libkrun.so.1.x", "libkrunfw.so.5.6.1"]
    place = put(tmp_path / "place", *names, "libkrunfw.so.50", "libkrun.so.2.0.0")
    assert find_libraries([place]) == Libraries(place / "libkrun.so.1.17.4", place / "libkrunfw.so.5.6.1")


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        ([], "library-missing", "no libkrun.so.1 in "),
        (["libkrun.so", KERNEL], "library-missing", "no libkrun.so.1 in "),
        ([LIBRARY], "kernel-missing", "no libkrunfw.so.5, the guest's kernel, in "),
        ([LIBRARY, "libkrunfw.so.4"], "kernel-missing", "no libkrunfw.so.5, the guest's kernel, in "),
    ],
)
def test_what_is_missing_is_named_with_the_places(tmp_path: Path, names: list[str], kind: str, words: str) -> None:
    place = put(tmp_path / "place", *names)
    with pytest.raises(MachineFault, match=words) as caught:
        find_libraries([place, "/no/such"])
    assert caught.value.kind == kind
    assert caught.value.reason == f"{words}{place}, /no/such"


def test_directories_and_dangling_links_are_no_libraries(tmp_path: Path) -> None:
    (tmp_path / LIBRARY).mkdir()
    (tmp_path / KERNEL).symlink_to("nowhere")
    with pytest.raises(MachineFault, match=r"no libkrun\.so\.1"):
        find_libraries([tmp_path])


# -- loading changes a process for good, so each is one of its own --


def loaded(libraries: Libraries, then: str = "") -> str:
    """Load in a process of its own; give what it says, a fault as its kind and reason."""
    program = f"""
import sys
from pathlib import Path
from supervisor.microvm import krun
try:
    machine = krun.load(krun.Libraries(Path(sys.argv[1]), Path(sys.argv[2])))
    {then or "print('loaded')"}
except krun.MachineFault as fault:
    print(fault.kind, fault.reason)
"""
    words = [sys.executable, "-I", "-c", program, str(libraries.hypervisor), str(libraries.kernel)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture(scope="module")
def real() -> Libraries:
    return find_libraries([machine_libraries()])


def without(library: Path, directory: Path, symbol: str) -> Path:
    """Copy a library in which a function is called something else."""
    data, name = library.read_bytes(), symbol.encode()
    old, new = b"\0" + name + b"\0", b"\0" + name[:-1] + b"X\0"
    assert old in data
    path = directory / library.name
    path.write_bytes(data.replace(old, new))
    return path


def test_the_pinned_libraries_have_all_that_is_needed(real: Libraries) -> None:
    assert loaded(real) == "loaded"


def test_the_kernel_is_found_by_its_name_alone_once_it_is_loaded(real: Libraries) -> None:
    then = f"import ctypes; ctypes.CDLL({KERNEL!r}); print('found')"
    assert loaded(real, then) == "found"


@pytest.mark.parametrize("symbol", ["krun_add_vsock", "krun_disable_implicit_vsock", "krun_add_console_port_inout"])
def test_a_library_without_a_function_is_too_old_and_the_function_is_named(
    real: Libraries, tmp_path: Path, symbol: str
) -> None:
    assert symbol in NEEDED
    old = without(real.hypervisor, tmp_path, symbol)
    said = loaded(Libraries(old, real.kernel))
    assert said == f"library-too-old {old} has no function {symbol}: libkrun 1.17 or later is needed"


def test_another_library_in_its_place_is_told(real: Libraries, tmp_path: Path) -> None:
    other = tmp_path / KERNEL
    shutil.copyfile(real.hypervisor, other)
    said = loaded(Libraries(real.hypervisor, other))
    assert said == f"kernel-missing {other} has no function krunfw_get_kernel: not libkrunfw"


@pytest.mark.parametrize(("broken", "kind"), [("hypervisor", "library-missing"), ("kernel", "kernel-missing")])
def test_a_file_that_is_no_library_is_told(real: Libraries, tmp_path: Path, broken: str, kind: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"\x7fELF and nothing more")
    parts = {"hypervisor": real.hypervisor, "kernel": real.kernel} | {broken: path}
    said = loaded(Libraries(**parts))
    assert said.startswith(f"{kind} cannot be loaded: {path}: ")


def test_what_the_library_refuses_is_told_with_the_call(real: Libraries) -> None:
    assert loaded(real, "machine.begin(0, 256)") == "refused krun_set_vm_config: Invalid argument (-22)"
    assert loaded(real, "machine.set_root('/guest')") == "refused krun_set_root: No such file or directory (-2)"
    assert loaded(real, "machine.begin(1, 256); machine.set_root('/guest'); print('taken')") == "taken"


def test_the_program_imports_little_and_no_library_before_all_is_checked() -> None:
    loaded_modules = "{'trio', 'asyncio', 'pyroute2', 'subprocess'} & set(sys.modules)"
    program = (
        f"import sys; import supervisor.microvm.vmm; print(sorted({loaded_modules}), open('/proc/self/maps').read())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert "libkrun" not in done.stdout
