"""The language catalogue."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from supervisor.errors import ConfigurationError
from supervisor.image.inside import Inside
from supervisor.runtimes.catalogue import LANGUAGES, installed_languages, language_of, load_languages, sized

LIBRECHAT = [
    "py",
    "js",
    "ts",
    "c",
    "cpp",
    "java",
    "php",
    "rs",
    "go",
    "d",
    "f90",
    "r",
    "bash",
    "python",
    "javascript",
    "typescript",
]


def test_every_code_of_librechat_is_known() -> None:
    known = {alias for language in load_languages() for alias in (language.name, *language.aliases)}
    assert set(LIBRECHAT) <= known


def test_command_lines_are_what_the_data_says(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("gcc", "python3"):
        (tmp_path / "bin" / tool).touch()
    found = installed_languages(load_languages(), Inside(tmp_path / "none", tmp_path, tmp_path / "none").find)
    assert set(found) == {"c", "python", "py", "python3"}
    assert found["c"].compile_arguments() == [
        *("/usr/bin/gcc", "-std=gnu17", "-O2", "-fopenmp", "-iquote", "/mnt/data"),
        *("-o", "/tmp/main", "/code/main.c", "-lm"),
    ]
    assert found["c"].run_arguments(["a b", "{x}"]) == ["/tmp/main", "a b", "{x}"]
    assert found["py"].compile_arguments() is None
    assert found["py"].environment["HOME"] == "/mnt/data"


def test_a_language_that_needs_what_a_build_prepares_is_not_there_without_it(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("java", "javac"):
        (tmp_path / "bin" / tool).touch()
    places = Inside(tmp_path / "local", tmp_path, tmp_path / "none")
    assert installed_languages(load_languages(), places.find) == {}
    (jar,) = next(each.needs for each in load_languages() if each.name == "java")
    prepared = tmp_path / "local" / Path(jar).relative_to("/usr/local")
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    assert set(installed_languages(load_languages(), places.find)) == {"java"}


def test_a_heap_is_smaller_than_the_memory_of_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "node").touch()
    found = installed_languages(load_languages(), Inside(tmp_path / "none", tmp_path, tmp_path / "none").find)
    small = sized(found, 400 << 20)["js"]
    assert small.run_arguments(["x"]) == ["/usr/bin/node", "--max-old-space-size=300", "/mnt/run/code/main.js", "x"]


@pytest.mark.parametrize(
    ("file", "language"),
    [
        *(("x.py", "python"), ("x.js", "javascript"), ("x.mjs", "javascript"), ("x.ts", "typescript"), ("x.go", "go")),
        *(("x.c", "c"), ("x.C", "cpp"), ("x.cc", "cpp"), ("x.cpp", "cpp"), ("X.CPP", "cpp"), ("x.rs", "rust")),
        *(("x.r", "r"), ("x.R", "r"), ("x.f90", "fortran"), ("x.F90", "fortran"), ("x.d", "d"), ("x.php", "php")),
        *(("x.sh", "bash"), ("x.java", "java"), ("x", "python"), ("x.txt", "python")),
    ],
)
def test_a_files_extension_tells_its_language(file: str, language: str) -> None:
    assert language_of(Path(file), load_languages()) == language


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('aliases = ["py", "python3"]', 'aliases = ["bash"]', "bash"),
        ("{source}", "{sauce}", "sauce"),
        ('extensions = [".py", ".pyw"]', 'extensions = [".sh"]', ".sh"),
        ('title = "Python 3"', 'title = "Python 3"\nspeed = 9', "speed"),
        ('source = "main.py"', 'source = "../main.py"', "source"),
        ("run = ", "walk = ", "walk"),
        ("name", "name name", "python.toml"),
        ('seccomp = "python"\n', "", "seccomp"),
        ('seccomp = "python"', 'seccomp = "../default"', "seccomp"),
        ('seccomp = "python"', 'seccomp = "python"\nseccomp_compile = "compiler"', "seccomp_compile"),
        ("[packages]", "[limits]\nwall_seconds = 0\n[packages]", "$.limits.wall_seconds"),
        ("[packages]", "[limits]\nwall_seconds = -1.5\n[packages]", "$.limits.wall_seconds"),
        ("[packages]", "[limits]\nwall_seconds = nan\n[packages]", "$.limits.wall_seconds"),
        ("[packages]", "[limits]\nwall_seconds = inf\n[packages]", "$.limits.wall_seconds"),
        ("[packages]", '[limits]\nwall_seconds = "9"\n[packages]', "$.limits.wall_seconds"),
        ("[packages]", "[limits]\nmemory_bytes = 9\n[packages]", "memory_bytes"),
        ("[packages]", "[limits]\ncompile_seconds = 9\n[packages]", "limits.compile_seconds"),
    ],
)
def test_a_broken_language_refuses_and_names_file_and_key(tmp_path: Path, old: str, new: str, named: str) -> None:
    shutil.copytree(LANGUAGES, tmp_path / "l")
    path = tmp_path / "l" / "python.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConfigurationError) as caught:
        load_languages(tmp_path / "l")
    assert "languages/python.toml: " in caught.value.message
    assert named in caught.value.message
