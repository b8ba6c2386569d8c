"""What an operator asks for, and ``gaoler image list|verify|remove``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from supervisor.errors import ConfigurationError, Conflict, NotFound
from supervisor.image import Image, Selection, current_image, hold
from supervisor.image.blueprint import missing_packages, wanted_of
from supervisor.image.build import build_image
from supervisor.image.debian import installed_versions
from supervisor.image.ground import Ground
from supervisor.image.in_sandboxes import try_all
from supervisor.image.inside import Inside
from supervisor.image.inventory import r_packages
from supervisor.image.manage import list_images, remove, verify
from supervisor.image.plan import NOTHING
from supervisor.image.python_layer import _move_programs, drop_those_of
from supervisor.image.selection import asked_for
from supervisor.image.trial import Attempt, version_in
from supervisor.preparation.prepare import find_languages
from supervisor.runtimes.catalogue import Language, Packages, load_languages
from supervisor.settings.tree import Settings
from tests.supervisor.images import Programs, Quiet, plan, tiny
from tests.supervisor.test_cli import gaoler


def asking(
    before: Selection,
    *,
    languages: str = "",
    groups: str = "",
    packages: Path | None = None,
    base: str | None = None,
    suite: str | None = None,
) -> Selection:
    return asked_for(
        before, languages=languages.split(), groups=groups.split(), packages=packages, base=base, suite=suite
    )


def test_flags_add_to_what_was_asked_for_before(tmp_path: Path) -> None:
    file = tmp_path / "packages.toml"
    file.write_text('debian = ["jq"]\npython = ["polars==1.0"]\nnpm = ["@scope/name@2", "is-odd"]\n')
    first = asking(NOTHING, languages="go rust", packages=file)
    file.write_text('python = ["polars==2.0", "rich"]\n')
    second = asking(first, languages="java go", groups="office", packages=file)
    assert second == Selection(
        ["go", "java", "rust"], ["office"], ["jq"], ["polars==2.0", "rich"], ["@scope/name@2", "is-odd"]
    )
    assert asking(second, languages="all").languages == ["all"]
    own = asking(second, base="own", suite="trixie")
    assert (own.base, own.suite, asking(own).suite) == ("own", "trixie", "trixie")
    with pytest.raises(ConfigurationError, match="suite"):
        asking(NOTHING, suite="trixie")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('debian = ["jq; rm"]', "debian"),
        ('debian = ["systemd-"]', "debian"),
        ('debian = ["jq\\n"]', "debian"),
        ('python = ["--index-url=x"]', "python"),
        ('npm = ["../x"]', "npm"),
        ('npm = ["x@.."]', "npm"),
        ('npm = ["x@~"]', "npm"),
        ('npm = ["x.tgz"]', "npm"),
        ('python = ["x.whl"]', "python"),
        ('npm = ["x\\n"]', "npm"),
        ("ruby = []", "ruby"),
        ("debian = 1", "debian"),
        ("debian", "packages.toml"),
    ],
)
def test_a_file_of_packages_that_breaks_a_rule_is_refused_by_key(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "packages.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=named):
        asking(NOTHING, packages=tmp_path / "packages.toml")


def test_unknown_names_are_refused_with_those_that_exist(tmp_path: Path) -> None:
    work = plan(tmp_path, tiny())
    with pytest.raises(ConfigurationError, match=r"cobol.*bash, python, tiny, and all"):
        wanted_of(replace(work, selection=Selection(languages=["cobol"])))
    with pytest.raises(ConfigurationError, match=r"games.*none"):
        wanted_of(replace(work, selection=Selection(groups=["games"])))


def debian_language(tools: list[str], debian: list[str]) -> Language:
    return msgspec.structs.replace(tiny(), tools={name: [name] for name in tools}, packages=Packages(debian=debian))


def test_a_package_that_brings_tools_is_not_missing_where_the_tools_are(tmp_path: Path) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    for name in ("python3", "bash", "here"):
        (tmp_path / "usr" / "bin" / name).touch()
    ground = Ground("host", tmp_path / "usr", tmp_path / "etc", {"bash": "5", "python3": "3", "present": "1"})

    def missing(tools: list[str], debian: list[str], *extra: str) -> list[str]:
        selection = Selection(languages=["tiny"], debian=list(extra))
        work = replace(plan(tmp_path / "w", debian_language(tools, debian)), selection=selection)
        return missing_packages(work, wanted_of(work), ground)

    assert missing(["here"], ["brings-here"]) == []
    assert missing(["here"], ["brings-here", "library", "present"]) == ["library"]
    assert missing(["here", "gone"], ["brings-both", "library"]) == ["brings-both", "library"]
    assert missing(["here"], ["brings-here"], "asked-for", "present") == ["asked-for"]


def test_what_dpkg_has_removed_is_not_installed(tmp_path: Path) -> None:
    record = "Package: {}\nStatus: {}\nArchitecture: all\nVersion: 1.0\nDescription: x\n Package: y\n\n"
    (tmp_path / "status").write_text(
        record.format("one", "install ok installed") + record.format("two", "deinstall ok config-files")
    )
    assert installed_versions(tmp_path / "status") == {"one": "1.0"}
    assert installed_versions(tmp_path / "none") == {}


@pytest.fixture
def built(tmp_path: Path) -> Image:
    return build_image(plan(tmp_path / "w"), Quiet(), run=Programs())


def flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


@pytest.mark.parametrize(
    ("harm", "kind", "named"),
    [
        (lambda local: flip(local / "bin" / "tiny"), "wrong", "local/bin/tiny"),
        (lambda local: (local / "bin" / "tiny").chmod(0o4755), "wrong", "local/bin/tiny"),
        (lambda local: (local / "bin" / "tiny").unlink(), "missing", "local/bin/tiny"),
        (lambda local: (local / "bin" / "more").write_text(""), "extra", "local/bin/more"),
        (lambda local: (local / "bin" / "more").symlink_to("/etc/shadow"), "extra", "local/bin/more"),
    ],
)
def test_verify_finds_what_was_changed(built: Image, harm: Callable[[Path], object], kind: str, named: str) -> None:
    assert verify(built.path.parent, None).good
    harm(built.local)
    verdict = verify(built.path.parent, built.path.name[:6])
    assert {name: getattr(verdict, name) for name in ("wrong", "missing", "extra")} == {
        "wrong": [],
        "missing": [],
        "extra": [],
        kind: [named],
    }
    done = gaoler("image", "verify", "--image-dir", str(built.path.parent))
    assert (done.returncode, named in done.stdout, "--fresh" in done.stdout) == (1, True, True)


def test_verify_sees_a_list_that_is_not_the_manifests(built: Image) -> None:
    (built.path / "files.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="manifest"):
        verify(built.path.parent, None)


def test_images_are_listed_with_what_is_shared_counted_once_and_only_unused_ones_removed(tmp_path: Path) -> None:
    work = plan(tmp_path / "w")
    first = build_image(work, Quiet(), run=Programs())
    held = hold(first)
    assert held is not None
    second = build_image(plan(tmp_path / "w", requirement="tiny==2.0"), Quiet(), run=Programs())
    directory = work.directory
    rows = {row.id: row for row in list_images(directory).images}
    assert {name: (row.current, row.in_use) for name, row in rows.items()} == {
        first.path.name: (False, True),
        second.path.name: (True, False),
    }
    assert 0 < rows[second.path.name].own_bytes <= rows[second.path.name].bytes
    assert list_images(directory).bytes < sum(row.bytes for row in rows.values()) * 3
    with pytest.raises(Conflict, match="in use"):
        remove(directory, first.path.name)
    with pytest.raises(Conflict, match="current"):
        remove(directory, second.path.name[:8])
    with pytest.raises(NotFound, match=f"no image is called '../etc': .*{second.path.name}"):
        remove(directory, "../etc")
    said = gaoler("image", "remove", "", "--image-dir", str(directory))
    assert (said.returncode, "give an image's ID, or the start of it: in" in said.stderr) == (1, True)
    assert first.path.name in said.stderr
    (directory / f"{first.path.name}.00000000").mkdir()
    with pytest.raises(NotFound, match=rf"the start of several images: {first.path.name}, {first.path.name}\.0"):
        remove(directory, first.path.name[:-1])
    (directory / f"{first.path.name}.00000000").rmdir()
    os.close(held)
    assert remove(directory, first.path.name) == first.path.name
    assert not first.path.exists()
    listed = json.loads(gaoler("image", "list", "--json", "--image-dir", str(directory)).stdout)
    assert [row["id"] for row in listed["images"]] == [second.path.name]


def test_links_are_followed_as_a_sandbox_would(tmp_path: Path) -> None:
    for name in ("local/bin", "usr/bin", "usr/lib/deep", "etc/alternatives"):
        (tmp_path / name).mkdir(parents=True)
    trees = Inside(tmp_path / "local", tmp_path / "usr", tmp_path / "etc")
    (tmp_path / "usr/lib/deep/program").write_text("x")
    links = {
        "usr/bin/tool": "/etc/alternatives/tool",
        "etc/alternatives/tool": "../../lib/deep/program",
        "usr/bin/round": "round",
        "usr/bin/host": "/proc/self/exe",
        "local/bin/near": "../../bin/tool",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    assert trees.place("/bin/tool") == tmp_path / "usr/lib/deep/program"
    assert trees.find(["gone", "near"]) == "/usr/local/bin/near"
    assert trees.identity("/usr/local/bin/near").startswith("program 1 ")
    assert [trees.place(f"/usr/bin/{name}") for name in ("round", "host", "gone")] == [None, None, None]


def test_r_tells_its_packages(tmp_path: Path) -> None:
    for name, text in (("a", "Package: a\nVersion: 1.2-3\nDepends: R\n"), ("broken", "nothing\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "DESCRIPTION").write_text(text)
    assert r_packages([tmp_path, tmp_path / "none"]) == {"a": "1.2-3"}


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0\n", "12.2.0"),
        ("v20.20.2\n", "20.20.2"),
        ('openjdk version "17.0.15" 2025-04-15\n', "17.0.15"),
        ("go version go1.19.8 linux/amd64\n", "1.19.8"),
        ("no version\n", ""),
    ],
)
def test_a_version_is_the_first_thing_with_digits_and_a_dot(said: str, version: str) -> None:
    assert version_in(said) == version


@pytest.mark.root
def test_a_trial_runs_in_real_sandboxes_and_says_what_went_wrong(image_dir: Path) -> None:
    attempts = [
        Attempt("python", "language", "python", "print(6 * 7)", "42\n"),
        Attempt("python", "language", "python", "print(6 * 7)", "43\n"),
        Attempt("bash", "group", "bash", "echo oh >&2; exit 3", ""),
        Attempt("bash", "version", "bash", "bash --version", None),
        Attempt("bash", "group", "bash", "touch /usr/local/x 2>/dev/null || echo closed", "closed\n"),
    ]
    answers = try_all(Settings(), image_dir, attempts)
    assert [answer.fault for answer in answers] == [
        "",
        r"printed '42\n'",
        "ended with status 3: the program exited with code 3 oh",
        "",
        "",
    ]
    assert version_in(answers[3].stdout)


def test_every_language_of_the_image_was_tried_and_tells_its_version(image_dir: Path) -> None:
    image = current_image(image_dir)
    assert image is not None
    chosen = image.manifest.selection.languages
    names = {each.name for each in load_languages()} if chosen == ["all"] else {"python", "bash"}
    assert names <= set(image.manifest.languages)
    assert [name for name in sorted(names) if not image.manifest.languages[name].version] == []
    assert [name for name in sorted(names) if not image.manifest.languages[name].tried] == []


def test_a_tool_that_was_changed_since_the_build_has_no_version_and_it_is_said(
    built: Image, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = dict(built.manifest.languages)
    bash = find_languages(Image(built.path, built.manifest), {})["bash"]
    assert not caplog.messages
    told = msgspec.structs.replace(records["bash"], version="5.2", packages={"a": "1"})
    same = msgspec.structs.replace(built.manifest, languages={**records, "bash": told})
    found = find_languages(Image(built.path, same), {})
    assert (found["sh"].version, found["bash"].packages, bash.version) == ("5.2", {"a": "1"}, "")
    other = msgspec.structs.replace(told, tools={"/usr/bin/bash": "bash 1 2"})
    changed = msgspec.structs.replace(built.manifest, languages={**records, "bash": other})
    assert find_languages(Image(built.path, changed), {})["bash"].version == ""
    assert [message for message in caplog.messages if "bash" in message and "gaoler image build" in message]


def test_programs_are_moved_with_the_directories_that_a_wheel_has_among_them(tmp_path: Path) -> None:
    site, target = tmp_path / "site", tmp_path / "bin"
    (site / "bin" / "tool-data" / "deep").mkdir(parents=True)
    (site / "tool-1.dist-info").mkdir()
    (site / "bin" / "tool").write_text("#!/some/venv/bin/python3\nprint(1)\n")
    (site / "bin" / "tool-data" / "deep" / "run").write_bytes(b"#!/bin/sh\n\xff\n")
    (site / "tool-1.dist-info" / "RECORD").write_text("../../bin/tool-data/deep/run,sha256=x,9\ntool.py,sha256=y,1\n")
    _move_programs(site, target)
    assert (target / "tool").read_text() == "#!/usr/bin/python3\nprint(1)\n"
    assert (target / "tool-data" / "deep" / "run").read_bytes() == b"#!/bin/sh\n\xff\n"
    assert (target / "tool-data" / "deep" / "run").stat().st_mode & 0o777 == 0o755
    assert not (site / "bin").exists()
    record = (site / "tool-1.dist-info" / "RECORD").read_text()
    assert record == "../../bin/tool-data/deep/run,,\ntool.py,sha256=y,1\n"


def test_what_the_image_has_already_is_not_added_twice(tmp_path: Path) -> None:
    site = tmp_path / "site"
    files = {
        "both/__init__.py": "",
        "both-1.0.dist-info/RECORD": "both/__init__.py,,\n../../bin/both,,\n../../share/man/man1/both.1,,\n../../../etc/x,,\n",
        "bin/both": "",
        "share/man/man1/both.1": "",
        "new/__init__.py": "",
        "new-1.0.dist-info/RECORD": "new/__init__.py,,\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    drop_those_of(site, {"both": "1.0"})
    left = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    assert left == {"new/__init__.py", "new-1.0.dist-info/RECORD"}
    assert not (site / "share").exists()
