"""The hosts that ``python``, ``node``, ``go``, ``rust`` and ``debian`` mean: those of this machine's package managers.

They stand in the managers' configuration, or the managers name them. No registry is named here; nothing is resolved or
reached. A value is never repeated in a note, because it may hold a password: notes name the file and the key.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from supervisor.network.configuration import Ask, PresetHost, Reading, Values, all_of, ask_program

_ASK_PIP: Final = "from pip._internal.models.index import PyPI as i; print(i.url, 'https://' + i.file_storage_domain)"
# --global: no project's settings. Without the others npm asks the network for a newer npm, and leaves log files.
_NPM_GET: Final = ("npm", "config", "get", "--global", "--no-update-notifier", "--logs-max=0")
_KEPT_BACK: Final = re.compile("_proxy$|key|pass|auth|secret|token", re.IGNORECASE)  # from those that are asked
_APT_NAME: Final = re.compile(r"[\w.-]+\.(list|sources)", re.ASCII)
# sources.list(5), "ONE-LINE-STYLE FORMAT".
_DEB_LINE: Final = re.compile(r"^[ \t]*deb(?:-src)?[ \t]+(?:\[[^\]\n]*\][ \t]*)?([^\s#]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Preset:
    """The hosts behind a word of an allowlist. ``notes`` say why it is empty, or what it does not cover."""

    name: str
    hosts: tuple[PresetHost, ...]
    notes: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """With it the manager in a sandbox uses the same places; empty where those are its own defaults."""


def read_presets(
    environment: Mapping[str, str], home: Path, root: Path = Path("/"), *, ask: Ask | None = None
) -> Mapping[str, Preset]:
    """Find out what the presets mean to whose environment and home these are. Blocks while package managers answer.

    ``root`` stands before every path but ``home``. What is broken or unreadable becomes a note.
    """
    kept = {name: value for name, value in environment.items() if not _KEPT_BACK.search(name)}
    # go would otherwise fetch the version of itself that a setting names.
    ask = ask or partial(ask_program, {"PATH": os.defpath} | kept | {"HOME": str(home), "GOTOOLCHAIN": "local"})
    presets = {}
    for name, read in {"python": _python, "node": _node, "go": _go, "rust": _rust, "debian": _debian}.items():
        here = Reading(environment, home, root, ask)
        read(here)
        notes = here.notes if here.hosts or here.notes else ["nothing that is configured here names a host"]
        presets[name] = Preset(name, tuple(here.hosts.values()), tuple(notes), here.settings)
    return presets


def as_rows(presets: Mapping[str, Preset]) -> list[tuple[str, str, str]]:
    """Make rows for a table: preset, host with scheme and port (empty beside a note), origin or note."""
    rows = []
    for name, preset in presets.items():
        for host, port, scheme, origin in map(astuple, preset.hosts):
            rows.append((name, f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}", origin))
        rows += [(name, "", note) for note in preset.notes]
    return rows


def _python(here: Reading) -> None:
    """An index configured for pip or uv stands for both: who set a mirror for one did not mean the public one."""
    (indexes, extras), (uv_indexes, uv_extras) = _pip_indexes(here), _uv_indexes(here)
    index = [url for value, origin in indexes + uv_indexes for url in here.add(value, origin)]
    extra = [url for value, origin in extras + uv_extras for url in here.add(value, origin)]
    if index:
        here.settings |= {"PIP_INDEX_URL": index[0], "UV_DEFAULT_INDEX": index[0]}
    if extra:
        here.settings |= {"PIP_EXTRA_INDEX_URL": " ".join(extra), "UV_INDEX": " ".join(extra)}
    if indexes or uv_indexes:
        here.note("if an index keeps its files on another host, that host is needed too, by its name")
        return
    answers = (here.ask((python, "-I", "-c", _ASK_PIP)) for python in (sys.executable, "python3") if python)
    answer = next(filter(None, answers), "")
    here.add(answer, "pip's own default")
    if not answer:
        here.note("no index-url is configured, and there is no pip to name its own: set it in /etc/pip.conf")


def _pip_indexes(here: Reading) -> list[Values]:
    """As pip ranks them: environment, a command's own section, [global]; later files before. An empty value is none."""
    chosen = here.environment.get("PIP_CONFIG_FILE", "")
    *system, user = here.xdg_files("pip/pip.conf")
    files = [*system, here.path("/etc/pip.conf"), here.home / ".pip/pip.conf", user]
    if chosen:
        files[-2:] = [*([] if os.access(here.path(chosen), os.F_OK) else files[-2:]), here.path(chosen)]
    settings = {}
    for path in [] if chosen == os.devnull else files:
        for section, values in here.read(path, _ini).items():
            for key, value in values:
                settings[section, key.replace("_", "-")] = (value, f"{here.shown(path)}, [{section}] {key}")
    both = []
    for key in ("index-url", "extra-index-url"):
        values = here.variables("PIP_" + key.upper().replace("-", "_"))
        for command in () if values else ("install", "download"):
            ranked = (settings.get((section, key), ("", "")) for section in (command, "global"))
            values += [each for each in ranked if each[0]][:1]
        both.append(values)
    return both


def _ini(text: str) -> dict[str, list[tuple[str, str]]]:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {section: parser.items(section) for section in parser.sections()}


def _uv_indexes(here: Reading) -> list[Values]:
    """Of uv's default indexes the strongest counts, the further ones add up. Of the system's files it takes one."""
    indexes = here.variables("UV_DEFAULT_INDEX", "UV_INDEX_URL")
    extras = here.variables("UV_INDEX", "UV_EXTRA_INDEX_URL")
    *system, user = here.xdg_files("uv/uv.toml")
    for path in (user, *[each for each in (*system, here.path("/etc/uv/uv.toml")) if os.path.lexists(each)][:1]):
        table, shown = here.read(path, tomllib.loads), here.shown(path)
        indexes += [(each, f"{shown}, index-url") for each in all_of(str, table.get("index-url"))]
        extras += [(each, f"{shown}, extra-index-url") for each in all_of(str, table.get("extra-index-url"))]
        for entry in all_of(dict, table.get("index")):
            urls = [(each, f"{shown}, [[index]] url") for each in all_of(str, entry.get("url"))]
            (indexes if entry.get("default") is True else extras).extend(urls)
    return [indexes[:1], extras]


def _node(here: Reading) -> None:
    variables: dict[str, tuple[str, str]] = {}
    for name in here.environment:
        if name.lower().startswith("npm_config_"):
            variables |= {name[11:].replace("_", "-").lower(): each for each in here.variables(name)}
    system = variables.get("globalconfig", ("", ""))[0] or here.ask((*_NPM_GET, "globalconfig")) or "/usr/etc/npmrc"
    user = here.path(variables["userconfig"][0]) if "userconfig" in variables else here.home / ".npmrc"
    settings = {}
    for path in (here.path("/etc/npmrc"), here.path(system.strip()), user):
        values = here.read(path, partial(_npmrc, here.environment))
        settings.update({key: (value, f"{here.shown(path)}, {key}") for key, value in values.items()})
    settings |= variables
    if "registry" not in settings:
        settings["registry"] = (here.ask((*_NPM_GET, "registry")) or "", "npm's own default")
    for key, (value, origin) in settings.items():
        if value and re.fullmatch("(@.*:)?registry", key):
            taken = here.add(value, origin)
            if taken and (key != "registry" or origin != "npm's own default"):
                here.settings[f"npm_config_{key}"] = taken[0]
    if not settings["registry"][0]:
        here.note("no registry is configured, and there is no npm to name its own: set it in /etc/npmrc")


def _npmrc(environment: Mapping[str, str], text: str) -> dict[str, str]:
    """Read npm's INI: what is in a section is not npm's, a comment ends a value, ``${NAME}`` is of the environment."""
    settings = {}
    for line in re.split(r"^[ \t]*\[", text, maxsplit=1, flags=re.MULTILINE)[0].split("\n"):
        key, _, value = (each.strip() for each in line.partition("="))
        value = value[1:-1] if re.fullmatch(r"([\"']).*\1", value) else re.split("[;#]", value)[0].strip()
        if value and not key.startswith((";", "#")):
            value = re.sub(r"\$\{([^${}?]+)\??\}", lambda match: environment.get(match[1], match[0]), value)
            settings[key.strip("\"'")] = value
    return settings


def _go(here: Reading) -> None:
    names = ("GOPROXY", "GOSUMDB", "GOPRIVATE")
    answers = [*(here.ask(("go", "env", *names)) or "").split("\n"), "", ""]
    settings = {name: (answer.strip(), f"go env {name}") for name, answer in zip(names, answers, strict=False)}
    settings |= {name: value for name in names for value in here.variables(name)}
    if not (settings["GOPROXY"][0] and settings["GOSUMDB"][0]):
        here.note("GOPROXY or GOSUMDB is not set, and there is no go to name its own: set both")
    proxies, origin = settings["GOPROXY"]
    taken: list[str] = []
    for proxy in re.split(r"[,|\s]+", proxies.strip(",| ")):
        if proxy == "direct":
            here.note(f"{origin}: 'direct' would need the hosts of the modules themselves, by name")
        if proxy in {"", "direct", "off"}:
            break  # go does not look behind them
        taken += here.add(proxy if ":/" in proxy else f"https://{proxy}", origin)
    if taken:
        here.settings["GOPROXY"] = ",".join(taken)
    database, origin = settings["GOSUMDB"]
    name, *url = database.split() or ["off"]
    if name != "off":  # a name before "+key", or a URL behind it
        here.add(url[0] if url else f"https://{name.partition('+')[0]}", origin)
    if settings["GOPRIVATE"][0]:
        here.note("modules that GOPRIVATE covers would need their own hosts, by name")


def _rust(here: Reading) -> None:
    home = here.path(here.environment["CARGO_HOME"]) if here.environment.get("CARGO_HOME") else here.home / ".cargo"
    # Of the two cargo itself prefers the old name.
    path = home / "config" if os.path.lexists(home / "config") else home / "config.toml"
    table, shown = here.read(path, tomllib.loads), here.shown(path)
    sources, registries = _named(table.get("source")), _named(table.get("registries"))
    replaced = [name for name, each in sources.items() if "replace-with" in each]
    urls = {f"[registries.{name}] index": each.get("index") for name, each in registries.items()}
    for end in replaced:
        for _ in sources:  # no chain is longer; a ring is cargo's to refuse
            end = next(iter(all_of(str, sources.get(end, {}).get("replace-with"))), end)  # noqa: PLW2901
        urls[f"[source.{end}] registry"] = sources.get(end, {}).get("registry")
    for key, value in urls.items():
        here.add(value, f"{shown}, {key}")
    _cargo_copies(here, home / "registry/index", replaced=bool(replaced))
    if not here.hosts and not replaced:
        here.note(f"cargo cannot be asked for its default index, and has used none here: replace it in {shown}")


def _named(value: object) -> dict[str, dict[str, Any]]:
    return {name: each for table in all_of(dict, value) for name, each in table.items() if isinstance(each, dict)}


def _cargo_copies(here: Reading, folder: Path, *, replaced: bool) -> None:
    """Add the indexes that cargo keeps copies of, and the hosts of crates that those name."""
    known = {each.host for each in here.hosts.values()}
    for name in here.read(folder, sorted, os.listdir):
        host, _, mark = name.rpartition("-")
        if not re.fullmatch("[0-9a-f]{16}", mark) or (host not in known and replaced):
            continue  # from before the replacement
        if host not in known:
            here.add(f"https://{host}", f"{here.shown(folder)}, an index that cargo has used")
        for config in all_of(dict, here.read(folder / name / "config.json", lambda text: json.loads(text or "{}"))):
            here.add(config.get("dl"), f"{here.shown(folder / name)}/config.json, dl")
    if here.hosts and not any(each.origin.endswith(", dl") for each in here.hosts.values()):
        here.note("the index names in its config.json (dl) where crates are: that host is needed too, by its name")


def _debian(here: Reading) -> None:
    folder = here.path("/etc/apt/sources.list.d")
    more = [folder / name for name in here.read(folder, sorted, os.listdir) if _APT_NAME.fullmatch(name)]
    for path in (here.path("/etc/apt/sources.list"), *more):
        here.add(here.read(path, _deb822 if path.suffix == ".sources" else _DEB_LINE.findall), here.shown(path))
    if re.search(r'^Acquire::https?::Proxy\S* "[^"]', here.ask(("apt-config", "dump")) or "", re.MULTILINE):
        here.note("apt itself goes through a proxy (Acquire::http::Proxy in apt-config dump), which is not covered")


def _deb822(text: str) -> list[str]:
    """Read the URIs of sources.list(5), "DEB822-STYLE FORMAT"."""
    uris = []
    text = re.sub(r"^#.*\n?", "", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    for stanza in re.split(r"\n[ \t]*\n", text):
        pairs = (line.partition(":") for line in re.sub(r"\n[ \t]+", " ", stanza).split("\n"))
        fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
        disabled = re.fullmatch("no|false|without|off|disable|0", fields.get("enabled", "").lower())
        if not disabled and {"deb", "deb-src"}.intersection(fields.get("types", "").split()):
            uris += fields.get("uris", "").split()
    return uris
