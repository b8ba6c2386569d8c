"""A root of an image's own: Debian's ``/usr`` and ``/etc``, so that what sandboxes see does not depend on the host.

mmdebstrap makes it from the places and keys that the host's apt knows. Nothing of it is a container, nothing runs in
it afterwards but programs of sandboxes: so there is no package manager's state, no documentation, no setuid program
and no account that anybody could use.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from supervisor.image import debian
from supervisor.image.apt_sources import AptSources, read_apt
from supervisor.image.progress import BuildProgress
from supervisor.image.steps import ImageError, Runner
from supervisor.image.tree import make_plain

PACKAGES: Final = (
    "bc",
    "bzip2",
    "ca-certificates",
    "catatonit",
    "curl",
    "file",
    "jq",
    "less",
    "mawk",
    "media-types",
    "netbase",
    "patch",
    "procps",
    "tzdata",
    "unzip",
    "xz-utils",
    "zip",
)
"""Beside what Debian calls essential (bash, coreutils, ...) and what is asked for. catatonit is the jails' init."""

STATUS: Final = Path("var/lib/dpkg/status")
_HOOKS: Final = Path("/usr/share/mmdebstrap/hooks")
_NOT_NEEDED: Final = ("share/man", "share/info", "share/lintian", "share/bug", "share/linda")
_OF_THE_BUILD: Final = ("apt", "dpkg", "hostname", "hosts", "machine-id", "resolv.conf", "mtab", "fstab")
"""Of ``/etc``: what names this host and its mirrors, or how the root was made."""
_MERGED: Final = ("bin", "sbin", "lib")
_SUITE: Final = re.compile(r"[a-z][a-z0-9.-]{1,40}")
# Whoever kills the build kills all of it, and the kernel takes its mounts away: nobody else ever sees them.
_ALONE: Final = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)


def suite_of_host() -> str:
    """Name the release of the distribution that this host runs.

    Raises:
        ImageError: it does not say.
    """
    name = _os_release().get("VERSION_CODENAME", "")
    if not _SUITE.fullmatch(name):
        raise ImageError("this host does not say which release of Debian it is: name one with --suite")
    return name


def identity(wanted: Sequence[str], suite: str) -> tuple[object, ...]:
    """Give all that decides what a root will be, but for what its packages' versions are on the day."""
    rules = (PACKAGES, _NOT_NEEDED, _OF_THE_BUILD, Path(__file__).read_text(encoding="utf-8"))
    return (sorted({*PACKAGES, *wanted}), suite or suite_of_host(), platform.machine(), rules)


def build_root(
    target: Path,
    wanted: Sequence[str],
    progress: BuildProgress,
    run: Runner,
    *,
    suite: str = "",
    debs: Path | None = None,
) -> None:
    """Fill the directory ``target`` with ``usr``, ``etc`` and ``var/lib/dpkg/status`` of Debian with these packages.

    ``suite``: the host's own if empty. ``debs``: where downloads are kept for the next time, whatever becomes of this
    one. Runs as root; blocks for minutes. What an interrupted one leaves is below ``target``, and is no mount.

    Raises:
        ImageError: there is no apt, or a step failed.
    """
    suite = suite or suite_of_host()
    if not _SUITE.fullmatch(suite):
        raise ImageError(f"{suite!r} is no name of a release: lower-case letters, digits, dots and dashes")
    _need_tools(progress, run)
    places = read_apt(suite, _os_release(), run)
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    chroot, downloads = target / "chroot", debs or target / "debs"
    (downloads / "partial").mkdir(mode=0o755, parents=True, exist_ok=True)
    with progress.step(f"Installing Debian {suite} as the image's root") as step:

        def see(line: str) -> None:
            if found := re.match(r"(?:Get:\d+ .* |Unpacking |Setting up )([a-z0-9][a-z0-9+.-]+)[: ]", line):
                step.advance(found[1])

        configuration = _write_configuration(target / "apt", places)
        run(_command(chroot, suite, sorted({*PACKAGES, *wanted}), configuration, downloads), see)
    with progress.step("Cleaning the image's root"):
        _take_over(chroot, target)
        forget_downloads(downloads, target / STATUS)
        for path in (chroot, target / "apt", target / "debs"):
            shutil.rmtree(path, ignore_errors=True)


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _need_tools(progress: BuildProgress, run: Runner) -> None:
    if shutil.which("apt-get") is None:
        raise ImageError(
            "a root of its own is made by mmdebstrap and apt, which this host does not have: "
            "build the image with --base host, or on a Debian host"
        )
    if shutil.which("mmdebstrap") is None:
        debian.install(["mmdebstrap"], progress, run)


def _write_configuration(directory: Path, places: AptSources) -> Path:
    """Write what the other apt is told; it may hold a proxy's password."""
    directory.mkdir(mode=0o700, exist_ok=True)
    (directory / "gaoler.sources").write_text(places.sources, encoding="utf-8")
    (directory / "options").write_text(places.options, encoding="utf-8")
    return directory


def _command(chroot: Path, suite: str, packages: Sequence[str], configuration: Path, downloads: Path) -> list[str]:
    sources = configuration / "gaoler.sources"
    hooks = ["maybe-merged-usr"]
    if re.search(r"^URIs: (file|copy):", sources.read_text(encoding="utf-8"), re.MULTILINE):
        hooks.append("file-mirror-automount")
    kept = '"$1/var/cache/apt/archives"'
    return [
        *_ALONE,
        *("env", "LC_ALL=C.UTF-8", "mmdebstrap", "--verbose", "--mode=root", "--format=directory"),
        "--variant=essential",
        # Of what it would tidy up nothing stays; the downloads are not its own to remove.
        "--skip=essential/unlink,cleanup/apt,check/signed-by",
        *(f"--hook-dir={_HOOKS / name}" for name in hooks if (_HOOKS / name).is_dir()),
        f"--setup-hook=mkdir -p {kept} && mount --bind {shlex.quote(str(downloads))} {kept}",
        f"--customize-hook=umount {kept}",
        f"--aptopt={configuration / 'options'}",
        f"--include={','.join(packages)}",
        *(suite, str(chroot), str(sources)),
    ]


def _take_over(chroot: Path, target: Path) -> None:
    """Keep of what mmdebstrap has made what sandboxes need.

    Raises:
        ImageError: ``/bin`` and the like are no links into ``/usr``: half of the programs would be missing.
    """
    for name in _MERGED:
        if not (chroot / name).is_symlink():
            raise ImageError(f"/{name} of this release is no link into /usr: take a newer one with --suite")
    (chroot / "usr").rename(target / "usr")
    (chroot / "etc").rename(target / "etc")
    (target / STATUS).parent.mkdir(mode=0o755, parents=True)
    (chroot / STATUS).rename(target / STATUS)
    clean_usr(target / "usr")
    clean_etc(target / "etc")
    for name in ("usr", "etc", "var"):
        make_plain(target / name)


def clean_usr(usr: Path) -> None:
    """Remove what no program reads, rights that files carry, and all of ``local``: the image brings its own."""
    shutil.rmtree(usr / "local", ignore_errors=True)
    (usr / "local").mkdir(mode=0o755)
    for name in _NOT_NEEDED:
        shutil.rmtree(usr / name, ignore_errors=True)
    for path in sorted((usr / "share" / "doc").glob("*/*")):
        # Their licences ask for this one.
        if path.name != "copyright":
            _remove(path)
    for path in sorted((usr / "share" / "locale").glob("*/LC_MESSAGES")):
        _remove(path)
    for directory, names, files in os.walk(usr):
        for name in (*names, *files):
            _drop_attributes(Path(directory, name))


def _drop_attributes(path: Path) -> None:
    """Take away what an extended attribute gives: capabilities, above all."""
    for name in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, name, follow_symlinks=False)


def clean_etc(etc: Path) -> None:
    """Remove what belongs to the build, and all that not everybody may read: no secret has a place in an image."""
    for name in _OF_THE_BUILD:
        _remove(etc / name)
    _remove_hidden(etc)


def _remove_hidden(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and mode & stat.S_IXOTH:
            _remove_hidden(path)
        elif not stat.S_ISLNK(mode) and not (stat.S_ISREG(mode) and mode & stat.S_IROTH):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def forget_downloads(downloads: Path, status: Path) -> None:
    """Remove the downloads that are of no use for the root that ``status`` tells of: earlier versions."""
    versions = debian.installed_versions(status)
    for path in downloads.glob("*.deb"):
        name, version = [*path.name.split("_"), ""][:2]
        if versions.get(name) != version.replace("%3a", ":"):
            path.unlink()
