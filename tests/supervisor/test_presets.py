"""The hosts of the presets, read from little file systems. No test but two runs a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from supervisor.network import configuration, presets
from supervisor.network.configuration import PresetHost, ask_program
from supervisor.network.presets import Preset, as_rows, read_presets

Files = Mapping[str, str | bytes]
HOME = "/home/ann"
PIP = f"{HOME}/.config/pip/pip.conf"
DEB822 = "/etc/apt/sources.list.d/a.sources"
SECRETS = ("ann-name", "hunter2")


class Machine:
    """A little file system and the package managers on it, which answer by the first words of a command."""

    def __init__(self, root: Path, **answers: str) -> None:
        self.root = root
        self.answers = {name.replace("_", " "): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, ...]] = []

    def ask(self, command: Sequence[str]) -> str | None:
        self.asked.append(tuple(command))
        words = " ".join(command)
        if command[1] == "-I":
            words = "pip"
        if command[0] == "npm":
            words = f"npm {command[-1]}"
        return next((answer for name, answer in self.answers.items() if words.startswith(name)), None)

    def write(self, files: Files) -> None:
        for name, content in files.items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def read(self, name: str, environment: Mapping[str, str] | None = None) -> Preset:
        home = self.root / HOME.lstrip("/")
        return read_presets(environment or {}, home, self.root, ask=self.ask)[name]


def urls(preset: Preset) -> list[str]:
    """As rows show them, without the ports that go without saying."""
    usual = {"https": ":443", "http": ":80"}
    shown = [row[1] for row in as_rows({preset.name: preset}) if row[1]]
    return [each.removesuffix(usual[each.partition(":")[0]]) for each in shown]


def origins(preset: Preset) -> list[str]:
    return [each.origin for each in preset.hosts]


def npmrc(host: str) -> str:
    return f"registry=https://{host}/npm/\n"


def pip_conf(host: str, section: str = "global") -> str:
    return f"[{section}]\nindex-url = https://{host}/simple\n"


PYTHON: dict[str, tuple[Files, dict[str, str], list[str]]] = {
    "the system's file": ({"/etc/pip.conf": pip_conf("a.example.org")}, {}, ["https://a.example.org"]),
    "XDG folders, then /etc": (
        {"/x/pip/pip.conf": pip_conf("x.example.org"), "/y/pip/pip.conf": pip_conf("y.example.org")},
        {"XDG_CONFIG_DIRS": "/x:/y:"},
        ["https://y.example.org"],
    ),
    "the user's file over the system's": (
        {"/etc/pip.conf": pip_conf("a.example.org"), PIP: pip_conf("b.example.org")},
        {},
        ["https://b.example.org"],
    ),
    "the user's new file over the old": (
        {PIP: pip_conf("b.example.org"), f"{HOME}/.pip/pip.conf": pip_conf("old.example.org")},
        {},
        ["https://b.example.org"],
    ),
    "XDG_CONFIG_HOME": (
        {PIP: pip_conf("b.example.org"), "/c/pip/pip.conf": pip_conf("c.example.org")},
        {"XDG_CONFIG_HOME": "/c"},
        ["https://c.example.org"],
    ),
    "the environment over all": (
        {"/etc/pip.conf": pip_conf("a.example.org"), PIP: pip_conf("b.example.org")},
        {"PIP_INDEX_URL": "https://e.example.org/simple"},
        ["https://e.example.org"],
    ),
    "an empty variable is none": (
        {"/etc/pip.conf": pip_conf("a.example.org")},
        {"PIP_INDEX_URL": ""},
        ["https://a.example.org"],
    ),
    "a section of the system's file over [global] of the user's": (
        {"/etc/pip.conf": pip_conf("i.example.org", "install"), PIP: pip_conf("g.example.org")},
        {},
        ["https://i.example.org", "https://g.example.org"],
    ),
    "PIP_CONFIG_FILE instead of the user's": (
        {
            "/p.conf": pip_conf("p.example.org"),
            PIP: pip_conf("b.example.org"),
            "/etc/pip.conf": pip_conf("a.example.org"),
        },
        {"PIP_CONFIG_FILE": "/p.conf"},
        ["https://p.example.org"],
    ),
    "PIP_CONFIG_FILE that is not there": (
        {PIP: pip_conf("b.example.org")},
        {"PIP_CONFIG_FILE": "/p.conf"},
        ["https://b.example.org"],
    ),
    "PIP_CONFIG_FILE=/dev/null": (
        {PIP: pip_conf("b.example.org"), "/etc/pip.conf": pip_conf("a.example.org")},
        {"PIP_CONFIG_FILE": "/dev/null"},
        ["https://own.example.org", "https://files.example.org"],
    ),
    "extra indexes add, several in a value, on several lines": (
        {
            PIP: "[global]\nindex_url=https://a.example.org\nextra-index-url = http://b.example.org:8080/x https://c.example.org\n https://d.example.org\n"
        },
        {},
        ["https://a.example.org", "http://b.example.org:8080", "https://c.example.org", "https://d.example.org"],
    ),
    "an extra index leaves pip's own": (
        {},
        {"PIP_EXTRA_INDEX_URL": "https://x.example.org"},
        ["https://x.example.org", "https://own.example.org", "https://files.example.org"],
    ),
    "local indexes are none": (
        {PIP: "[global]\nindex-url = file:///srv/simple\nextra-index-url = /srv/more ./here\n"},
        {},
        [],
    ),
    "of one host there is one": (
        {PIP: "[global]\nindex-url=https://a.example.org/simple\nextra-index-url=https://A.example.org.:443/other\n"},
        {},
        ["https://a.example.org"],
    ),
    "uv's variables": (
        {"/etc/uv/uv.toml": 'index-url = "https://a.example.org"'},
        {
            "UV_DEFAULT_INDEX": "own=https://d.example.org/s",
            "UV_INDEX_URL": "https://no.example.org",
            "UV_INDEX": "n=https://x.example.org https://y.example.org",
        },
        ["https://d.example.org", "https://x.example.org", "https://y.example.org"],
    ),
    "uv's user file over the system's, further indexes add": (
        {
            f"{HOME}/.config/uv/uv.toml": '[[index]]\nurl = "https://u.example.org"\ndefault = true\n[[index]]\nurl = "https://more.example.org"\n',
            "/etc/uv/uv.toml": 'index-url = "https://a.example.org"\nextra-index-url = ["https://z.example.org"]',
        },
        {},
        ["https://u.example.org", "https://more.example.org", "https://z.example.org"],
    ),
    "of uv's system files the first": (
        {
            "/etc/xdg/uv/uv.toml": 'index-url = "https://x.example.org"',
            "/etc/uv/uv.toml": 'index-url = "https://a.example.org"',
        },
        {},
        ["https://x.example.org"],
    ),
    "uv's keys of other types": (
        {"/etc/uv/uv.toml": 'index-url = 7\nextra-index-url = [1, "https://z.example.org"]\nindex = {url = 1}'},
        {},
        ["https://z.example.org", "https://own.example.org", "https://files.example.org"],
    ),
}


@pytest.mark.parametrize(("files", "environment", "expected"), PYTHON.values(), ids=PYTHON.keys())
def test_python_is_what_pip_and_uv_are_configured_to_use(
    tmp_path: Path, files: Files, environment: dict[str, str], expected: list[str]
) -> None:
    machine = Machine(tmp_path, pip="https://own.example.org/ https://files.example.org\n")
    machine.write(files)

    assert urls(machine.read("python", environment)) == expected


def test_an_origin_says_file_section_and_key_or_the_variable(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write({"/etc/pip.conf": pip_conf("a.example.org", "install"), PIP: pip_conf("b.example.org", "download")})

    assert origins(machine.read("python", {"UV_INDEX": "https://u.example.org"})) == [
        "/etc/pip.conf, [install] index-url",
        f"{PIP}, [download] index-url",
        "environment, UV_INDEX",
    ]


def test_another_interpreter_is_asked_if_this_one_has_no_pip(tmp_path: Path) -> None:
    def ask(command: Sequence[str]) -> str | None:
        return "https://own.example.org/ https://files.example.org\n" if command[0] == "python3" else None

    preset = read_presets({}, tmp_path, tmp_path, ask=ask)["python"]

    assert urls(preset) == ["https://own.example.org", "https://files.example.org"]
    assert origins(preset) == ["pip's own default", "pip's own default"]


def test_without_any_pip_the_note_says_what_to_write(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    preset = machine.read("python")

    assert (preset.hosts, len(preset.notes)) == ((), 1)
    assert "/etc/pip.conf" in preset.notes[0]
    assert [each[0] for each in machine.asked if each[1] == "-I"] == [sys.executable, "python3"]


NODE: dict[str, tuple[Files, dict[str, str], list[str]]] = {
    "npm's own": ({}, {}, ["https://own.example.org"]),
    "/etc": ({"/etc/npmrc": npmrc("a.example.org")}, {}, ["https://a.example.org"]),
    "the global file over /etc": (
        {"/etc/npmrc": npmrc("a.example.org"), "/usr/etc/npmrc": npmrc("g.example.org")},
        {},
        ["https://g.example.org"],
    ),
    "the user's over the global": (
        {"/usr/etc/npmrc": npmrc("g.example.org"), f"{HOME}/.npmrc": npmrc("u.example.org")},
        {},
        ["https://u.example.org"],
    ),
    "the environment over the user's, in any case": (
        {f"{HOME}/.npmrc": npmrc("u.example.org")},
        {"NPM_CONFIG_REGISTRY": "http://e.example.org:4873"},
        ["http://e.example.org:4873"],
    ),
    "files that the environment names": (
        {
            "/u": npmrc("u.example.org"),
            "/g": "@a:registry=https://g.example.org",
            f"{HOME}/.npmrc": npmrc("no.example.org"),
        },
        {"npm_config_userconfig": "/u", "npm_config_globalconfig": "/g"},
        ["https://g.example.org", "https://u.example.org"],
    ),
    "scopes have registries besides": (
        {f"{HOME}/.npmrc": "@one:registry=https://s.example.org\n\"@two:registry\" = 'https://t.example.org' \n"},
        {},
        ["https://s.example.org", "https://t.example.org", "https://own.example.org"],
    ),
    "comments, sections, other keys": (
        {
            f"{HOME}/.npmrc": ";registry=https://no.example.org\n# registry=https://no.example.org\n"
            "my-registry=https://no.example.org\nregistry = https://u.example.org ; mine\n[more]\nregistry=https://no.example.org\n"
        },
        {},
        ["https://u.example.org"],
    ),
    "a variable in a value": (
        {f"{HOME}/.npmrc": "registry=https://${MIRROR}/\n@a:registry=https://${NONE}/\n"},
        {"MIRROR": "m.example.org"},
        ["https://m.example.org"],
    ),
}


@pytest.mark.parametrize(("files", "environment", "expected"), NODE.values(), ids=NODE.keys())
def test_node_is_what_npm_is_configured_to_use(
    tmp_path: Path, files: Files, environment: dict[str, str], expected: list[str]
) -> None:
    machine = Machine(tmp_path, npm_globalconfig="/usr/etc/npmrc\n", npm_registry="https://own.example.org/\n")
    machine.write(files)

    assert urls(machine.read("node", environment)) == expected


def test_npm_is_asked_without_projects_update_checks_and_logs(tmp_path: Path) -> None:
    machine = Machine(tmp_path)

    preset = machine.read("node")

    assert preset.hosts == ()
    assert "/etc/npmrc" in preset.notes[0]
    asked = [each for each in machine.asked if each[0] == "npm"]
    assert all({"--global", "--no-update-notifier", "--logs-max=0"} < set(each) for each in asked)
    assert [each[-1] for each in asked] == ["globalconfig", "registry"]


GO: dict[str, tuple[str, dict[str, str], list[str], str]] = {
    "go's own": (
        "https://p.example.org,direct\nsum.example.org\n\n",
        {},
        ["https://p.example.org", "https://sum.example.org"],
        "direct",
    ),
    "the environment over go's own": (
        "https://p.example.org,direct\nsum.example.org\n\n",
        {"GOPROXY": "http://e.example.org:8081|https://f.example.org|off|https://no.example.org"},
        ["http://e.example.org:8081", "https://f.example.org", "https://sum.example.org"],
        "",
    ),
    "no go": ("", {"GOPROXY": "https://e.example.org", "GOSUMDB": "off"}, ["https://e.example.org"], ""),
    "neither": ("", {}, [], "there is no go"),
    "a key and a URL of the database": (
        "https://p.example.org\nsum.example.org+ab+Key https://db.example.org/x\n\n",
        {},
        ["https://p.example.org", "https://db.example.org"],
        "",
    ),
    "a key of the database": ("off\nsum.example.org+ab+Key\n\n", {}, ["https://sum.example.org"], ""),
    "no scheme": ("p.example.org/go\noff\n\n", {}, ["https://p.example.org"], ""),
    "a folder": ("file:///srv/go\noff\n\n", {}, [], "skipped"),
    "private modules": ("off\noff\n*.corp.example.org\n", {}, [], "GOPRIVATE"),
    "direct only": ("direct\noff\n\n", {}, [], "'direct' would need the hosts"),
}


@pytest.mark.parametrize(("answer", "environment", "expected", "noted"), GO.values(), ids=GO.keys())
def test_go_is_what_go_env_says(
    tmp_path: Path, answer: str, environment: dict[str, str], expected: list[str], noted: str
) -> None:
    preset = Machine(tmp_path, go_env=answer).read("go", environment)

    assert urls(preset) == expected
    assert noted in " ".join(preset.notes)


CARGO = f"{HOME}/.cargo"
REPLACED = '[source.standard]\nreplace-with="one"\n[source.one]\nreplace-with="two"\nregistry="https://no.example.org"\n[source.two]\nregistry="sparse+https://two.example.org/index/"\n'
INDEX = f"{CARGO}/registry/index"
COPY = f"{INDEX}/used.example.org-0123456789abcdef/config.json"
DL = '{"dl": "https://crates.example.org/{crate}", "api": "https://no.example.org"}'
RUST: dict[str, tuple[Files, dict[str, str], list[str], str]] = {
    "nothing": ({}, {}, [], f"replace it in {CARGO}/config.toml"),
    "a replacement of a replacement": ({f"{CARGO}/config.toml": REPLACED}, {}, ["https://two.example.org"], "dl"),
    "CARGO_HOME": (
        {"/c/config.toml": REPLACED, f"{CARGO}/config.toml": '[registries.a]\nindex="https://no.example.org"'},
        {"CARGO_HOME": "/c"},
        ["https://two.example.org"],
        "dl",
    ),
    "the old name first": (
        {f"{CARGO}/config": REPLACED, f"{CARGO}/config.toml": '[registries.a]\nindex="https://no.example.org"'},
        {},
        ["https://two.example.org"],
        "dl",
    ),
    "registries": (
        {f"{CARGO}/config.toml": '[registries.a]\nindex="https://a.example.org:8443/i"\n[registries.b]\nindex="file:///srv"\n'},
        {},
        ["https://a.example.org:8443"],
        "[registries.b] index: skipped",
    ),
    "a source that replaces nothing": (
        {f"{CARGO}/config.toml": '[source.spare]\nregistry="https://no.example.org"'},
        {},
        [],
        "replace it",
    ),
    "a folder as replacement": (
        {f"{CARGO}/config.toml": '[source.standard]\nreplace-with="v"\n[source.v]\ndirectory="/srv/v"'},
        {},
        [],
        "nothing that is configured here names a host",
    ),
    "a ring": (
        {f"{CARGO}/config.toml": '[source.a]\nreplace-with="b"\n[source.b]\nreplace-with="a"'},
        {},
        [],
        "nothing that is configured here names a host",
    ),
    "other types": (
        {f"{CARGO}/config.toml": "source=1\nregistries=[1]\n[other]\nx=1"},
        {},
        [],
        "replace it",
    ),
    "indexes that cargo has used": (
        {COPY: DL, f"{INDEX}/else/x": ""},
        {},
        ["https://used.example.org", "https://crates.example.org"],
        "",
    ),
    "an index without its config": ({f"{INDEX}/used.example.org-0123456789abcdef/x": ""}, {}, ["https://used.example.org"], "dl"),
    "used before the replacement": ({f"{CARGO}/config.toml": REPLACED, COPY: DL}, {}, ["https://two.example.org"], "dl"),
    "where the crates of a replacement are": (
        {f"{CARGO}/config.toml": REPLACED, f"{INDEX}/two.example.org-0123456789abcdef/config.json": DL},
        {},
        ["https://two.example.org", "https://crates.example.org"],
        "",
    ),
    "a config that is no object": ({COPY: "[7]"}, {}, ["https://used.example.org"], "dl"),
}  # fmt: skip


@pytest.mark.parametrize(("files", "environment", "expected", "noted"), RUST.values(), ids=RUST.keys())
def test_rust_is_what_cargo_is_configured_to_use_or_has_used(
    tmp_path: Path, files: Files, environment: dict[str, str], expected: list[str], noted: str
) -> None:
    machine = Machine(tmp_path)
    machine.write(files)

    preset = machine.read("rust", environment)

    assert urls(preset) == expected
    assert noted in " ".join(preset.notes)


DEBIAN: dict[str, tuple[Files, list[str]]] = {
    "one-line style": (
        {
            "/etc/apt/sources.list": "# deb http://no.example.org/debian x main\n#deb http://no.example.org/ x main\n\n"
            "deb http://a.example.org/debian bookworm main # http://no.example.org\n"
            "\tdeb-src\t[ arch=amd64 signed-by=/k.gpg ] https://b.example.org:8443/x ./\n"
            "deb [trusted=yes]http://c.example.org/ x main\nrpm http://no.example.org/ x\n"
            "deb cdrom:[Debian 12]/ x main\ndeb file:/srv/debian x main\n"
        },
        ["http://a.example.org", "https://b.example.org:8443", "http://c.example.org"],
    ),
    "folders and names": (
        {
            "/etc/apt/sources.list.d/b.list": "deb http://b.example.org/ x main\n",
            "/etc/apt/sources.list.d/a-1_x.list": "deb http://a.example.org/ x main\n",
            "/etc/apt/sources.list.d/c.list.off": "deb http://no.example.org/ x main\n",
            "/etc/apt/sources.list.d/c d.list": "deb http://no.example.org/ x main\n",
            "/etc/apt/sources.list": "deb http://first.example.org/ x main\n",
        },
        ["http://first.example.org", "http://a.example.org", "http://b.example.org"],
    ),
    "deb822": (
        {
            DEB822: "# A comment\nTypes: deb deb-src\n# http://no.example.org\nURIs: http://a.example.org/debian\n  https://b.example.org\n"
            "# http://no.example.org\n\thttps://c.example.org\nSuites: x\n"
        },
        ["http://a.example.org", "https://b.example.org", "https://c.example.org"],
    ),
    "deb822, several stanzas, some off": (
        {
            DEB822: "Types: deb\nURIs: http://a.example.org\nEnabled: yes\n\n \nEnabled: No\nTypes: deb\nURIs: http://no.example.org\n\n"
            "types: deb\nuris: http://b.example.org\nenabled: 1\n\nURIs: http://no.example.org\n\nTypes: rpm\nURIs: http://no.example.org\n"
        },
        ["http://a.example.org", "http://b.example.org"],
    ),
    "deb822 with the line ends of DOS": (
        {
            DEB822: "Types: deb\r\nURIs: http://a.example.org\r\n\r\nTypes: deb\r\nEnabled: off\r\nURIs: http://no.example.org\r\n"
        },
        ["http://a.example.org"],
    ),
    "nothing": ({}, []),
}


@pytest.mark.parametrize(("files", "expected"), DEBIAN.values(), ids=DEBIAN.keys())
def test_debian_is_what_apt_has_enabled(tmp_path: Path, files: Files, expected: list[str]) -> None:
    machine = Machine(tmp_path)
    machine.write(files)

    assert urls(machine.read("debian")) == expected


@pytest.mark.parametrize(
    ("dump", "noted"),
    [
        ('Acquire::http::Proxy "http://ann-name:hunter2@proxy.example.org:3128";\n', True),
        ('Acquire::https::Proxy::a.example.org "http://proxy.example.org";\n', True),
        ('Acquire::http::Proxy "";\nAcquire::http::Timeout "5";\n', False),
    ],
)
def test_a_proxy_of_apt_is_noted_and_no_host(tmp_path: Path, dump: str, noted: bool) -> None:
    machine = Machine(tmp_path, apt_config="", **{"apt-config_dump": dump})

    preset = machine.read("debian")

    assert preset.hosts == ()
    assert ("Acquire::http::Proxy" in preset.notes[0]) is noted
    assert not any(each in repr(preset) for each in (*SECRETS, "proxy.example.org"))


@pytest.mark.parametrize("url", ["https://ann-name:hunter2@a.example.org/x", "https://ann-name:hun@ter2@a.example.org:443/", "https://hunter2@a.example.org?x=hunter2#hunter2"])  # fmt: skip
def test_credentials_are_stripped(tmp_path: Path, url: str) -> None:
    everywhere = every_manager(tmp_path, url)

    assert {each.host for preset in everywhere.values() for each in preset.hosts} == {"a.example.org"}
    assert not any(each in repr(everywhere) + repr(as_rows(everywhere)) for each in (*SECRETS, "hun@", "ter2"))


@pytest.mark.parametrize(
    "url",
    [
        "https://ann-name:hunter2/x@a.example.org/",
        "https://ann-name:123/hunter2@a.example.org/",
        "https://ann-name:hunter2@[a.example.org/",
        "https://ann-name:hunter2@a.example.org:hunter2/",
        "https://ann-name:hunter2@a.example.org:0/",
        "https://ann-name:hunter2@a.example.org:99999/",
        "https://ann-name:hunter2@a_.-.example.org\\@b.example.org/",
        "https://ann-name:hunter2@/",
        "https://ann-name:hunter2@1.2.3.4.5/",
        "https://ann-name:hunter2@[fe80::1%eth0]/",
        "ftp://ann-name:hunter2@a.example.org/",
        "ann-name:hunter2@a.example.org",
    ],
)
def test_what_is_no_host_becomes_a_note_without_the_value(tmp_path: Path, url: str) -> None:
    everywhere = every_manager(tmp_path, url)

    assert [preset.hosts for preset in everywhere.values()] == [(), (), (), (), ()]
    assert all(preset.notes for preset in everywhere.values())
    assert not any(each in repr(everywhere) + repr(as_rows(everywhere)) for each in SECRETS)


def every_manager(root: Path, url: str) -> Mapping[str, Preset]:
    machine = Machine(root)
    machine.write(
        {
            "/etc/pip.conf": f"[global]\nindex-url = {url}\n",
            "/etc/uv/uv.toml": f"index-url = '{url}'\n",
            "/etc/npmrc": f"registry='{url}'\n",
            "/etc/apt/sources.list": f"deb {url.partition('#')[0]} x main\n",
            f"{CARGO}/config.toml": f"[registries.a]\nindex = 'sparse+{url}'\n",
        }
    )
    environment = {"GOPROXY": url if ":/" in url else "file:///srv", "GOSUMDB": "off", "PIP_EXTRA_INDEX_URL": url}
    return read_presets(environment, machine.root / HOME.lstrip("/"), machine.root, ask=machine.ask)


def test_addresses_and_international_names_are_made_canonical(tmp_path: Path) -> None:
    environment = {
        "PIP_INDEX_URL": "https://[2001:DB8::1]:8443/",
        "PIP_EXTRA_INDEX_URL": "http://BÜCHER.example.org http://0x7f.1",
    }

    preset = Machine(tmp_path).read("python", environment)

    assert [each.host for each in preset.hosts] == ["2001:db8::1", "xn--bcher-kva.example.org", "127.0.0.1"]
    assert preset.hosts[0] == PresetHost("2001:db8::1", 8443, "https", "environment, PIP_INDEX_URL")
    assert urls(preset)[0] == "https://[2001:db8::1]:8443"


def loop(path: Path) -> None:
    path.symlink_to(path.name)


ODD: dict[str, Callable[[Path], Any]] = {
    "binary garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a symlink loop": loop,
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "huge": lambda path: path.write_bytes(b"#\n" * configuration.MAX_BYTES),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}
CONFIGURATION = {
    "/etc/pip.conf": "python",
    f"{HOME}/.pip/pip.conf": "python",
    "/etc/uv/uv.toml": "python",
    f"{HOME}/.npmrc": "node",
    f"{CARGO}/config.toml": "rust",
    "/etc/apt/sources.list": "debian",
    DEB822: "debian",
}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("name", CONFIGURATION)
def test_an_odd_file_becomes_a_note_that_names_it(tmp_path: Path, name: str, make: Callable[[Path], Any]) -> None:
    path = tmp_path / name.lstrip("/")
    path.parent.mkdir(parents=True)
    make(path)

    preset = Machine(tmp_path).read(CONFIGURATION[name])

    assert any(note.startswith(f"{name} is not read: ") for note in preset.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("/etc/pip.conf", "index-url = https://ann-name:hunter2@a.example.org"),
        ("/etc/pip.conf", "[global]\nindex-url\n  hunter2"),
        ("/etc/uv/uv.toml", "index-url = https://ann-name:hunter2@a.example.org"),
        ("/etc/uv/uv.toml", "x = " + "[" * 100_000),
        (f"{CARGO}/config.toml", "[registries\nhunter2"),
        (COPY, "{hunter2"),
        (COPY, "[" * 100_000),
    ],
)
def test_a_broken_file_becomes_a_note_without_its_text(tmp_path: Path, name: str, text: str) -> None:
    machine = Machine(tmp_path)
    machine.write({name: text})

    read = read_presets({}, tmp_path / HOME.lstrip("/"), tmp_path, ask=machine.ask)

    assert any(note.startswith(f"{name} is not read: ") for preset in read.values() for note in preset.notes)
    assert not any(each in repr(read) for each in SECRETS)


def test_an_unreadable_file_and_an_unreadable_folder_become_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    machine = Machine(tmp_path)
    machine.write({"/etc/apt/sources.list": "", DEB822: ""})
    monkeypatch.setattr(os, "open", refuse)  # the tests may run as root, whom no mode stops
    monkeypatch.setattr(os, "listdir", refuse)

    assert machine.read("debian").notes == (
        "/etc/apt/sources.list.d is not read: Permission denied",
        "/etc/apt/sources.list is not read: Permission denied",
    )


def test_blank_lines_without_end_take_no_time(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    blank = "\n" * (configuration.MAX_BYTES - 100)
    spaces = " " * (configuration.MAX_BYTES - 100)
    machine.write({"/etc/npmrc": blank, f"{HOME}/.npmrc": spaces, DEB822: blank, "/etc/apt/sources.list": spaces})

    assert not machine.read("debian").hosts
    assert not machine.read("node").hosts


def test_what_would_move_the_cursor_of_a_terminal_is_shown_as_a_question_mark(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write({f"{CARGO}/config.toml": '[registries."\\u001b[2J"]\nindex = "https://a.example.org"\n'})

    assert origins(machine.read("rust")) == [f"{CARGO}/config.toml, [registries.?[2J] index"]


def test_rows_hold_hosts_before_notes(tmp_path: Path) -> None:
    host = PresetHost("a.example.org", 8443, "https", "here")

    assert as_rows({"go": Preset("go", (host,), ("a note",)), "rust": Preset("rust", (), ("why",))}) == [
        ("go", "https://a.example.org:8443", "here"),
        ("go", "", "a note"),
        ("rust", "", "why"),
    ]


ENVIRONMENT = {"PATH": os.defpath}


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        ("print('yes'); import sys; print('no', file=sys.stderr)", "yes\n"),
        ("import os; print(os.getcwd(), sorted(os.environ)) if not os.read(0, 1) else 1", None),
        ("import sys; print('yes'); sys.exit(1)", None),
        (f"print('x' * {configuration.MAX_BYTES})", None),
        ("import os; os.write(1, b'\\xff')", "\ufffd"),
    ],
    ids=["answers", "stands in / without input", "fails", "says too much", "is no UTF-8"],
)
def test_an_answer_is_what_a_program_prints_if_it_succeeds_in_bounds(script: str, answer: str | None) -> None:
    said = ask_program(ENVIRONMENT, (sys.executable, "-I", "-c", script))

    assert said == answer or (answer is None and said is not None and said.startswith("/ ['"))


def test_a_program_that_is_not_there_answers_nothing() -> None:
    assert ask_program(ENVIRONMENT, ("no-such-program",)) is None


def test_a_program_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configuration, "ASK_SECONDS", 0.1)

    assert ask_program(ENVIRONMENT, (sys.executable, "-c", "import time; time.sleep(600)")) is None


def test_package_managers_are_asked_without_proxies_and_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def ask(environment: Mapping[str, str], command: Sequence[str]) -> None:
        seen.update(environment)

    monkeypatch.setattr(presets, "ask_program", ask)
    given = {
        "GOPRIVATE": "x",
        "https_proxy": "p",
        "NO_PROXY": "p",
        "npm_config_https_proxy": "p",
        "A_TOKEN": "t",
        "npm_config__auth": "a",
    }
    read_presets({**given, "HOME": "/elsewhere"}, tmp_path, tmp_path)

    assert seen == {"PATH": os.defpath, "HOME": str(tmp_path), "GOPRIVATE": "x", "GOTOOLCHAIN": "local"}


def test_this_machine_has_a_host_for_python() -> None:
    here = read_presets(os.environ, Path.home())

    assert list(here) == ["python", "node", "go", "rust", "debian"]
    assert here["python"].hosts
    assert all(preset.hosts or preset.notes for preset in here.values())
