"""Bills of materials (CycloneDX 1.6) of what images bring beside Python's packages: npm's and Debian's.

The lock files of npm say every package, its version, hash and licence. For Debian there is none: an image takes the
versions that the host's apt has on the day, so the bill names the packages that languages and groups ask for, and no
versions; what those depend on is apt's to say. Two runs give the same bytes: there is no time and no random number.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from cyclonedx.spdx import is_expression, is_supported_id

from supervisor.image import own_root
from supervisor.image.plan import ALWAYS, HOST_PACKAGES, SANDBOX_PACKAGES
from supervisor.runtimes.catalogue import load_groups, load_languages

LOCK: Final = "package-lock.json"
_FORM: Final = {
    "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
}
_HASHES: Final = {"sha1": "SHA-1", "sha256": "SHA-256", "sha384": "SHA-384", "sha512": "SHA-512"}
_OF_THE_HOST: Final = "not locked: what the host's apt has when an image is built"

Component = dict[str, Any]


def write_bills_of_images(runtimes: Path, output: Path, version: str) -> None:
    """Write the bills into ``output``. ``runtimes``: with the lock files of npm; ``version``: Gaoler's.

    Raises:
        OSError, ValueError: a lock file cannot be read.
    """
    npm = [path / LOCK for path in sorted((runtimes / "npm").iterdir()) if (path / LOCK).is_file()]
    bills = {
        "gaoler-sandbox-npm": npm_components(npm),
        "gaoler-machine": npm_components([runtimes / "machine" / LOCK]),
        "gaoler-sandbox-debian": debian_components(),
    }
    for subject, components in bills.items():
        (output / f"{subject}-{version}.cdx.json").write_bytes(bill(subject, version, components))


def bill(subject: str, version: str, components: Iterable[Component]) -> bytes:
    """Write a bill down: components in the order of their names."""
    whole = {"bom-ref": subject, "type": "application", "name": subject, "version": version}
    ordered = sorted(components, key=lambda each: str(each["bom-ref"]))
    text = json.dumps({**_FORM, "metadata": {"component": whole}, "components": ordered}, indent=2, sort_keys=True)
    return f"{text}\n".encode("ascii")


def npm_components(locks: Sequence[Path]) -> list[Component]:
    """Give every package of these lock files, once for each version. Those of other platforms are optional."""
    found: dict[str, Component] = {}
    for lock in locks:
        read = json.loads(lock.read_text(encoding="utf-8"))
        if read.get("lockfileVersion") != 3:
            raise ValueError(f"{lock}: lockfileVersion is to be 3: make it with npm 9 or newer")
        for path, entry in read["packages"].items():
            if not path:
                continue  # the folder itself
            one = _of_npm(lock, path, entry)
            before = found.setdefault(one["bom-ref"], one)
            if before.get("hashes") != one.get("hashes"):
                raise ValueError(f"{lock}: {one['name']} {one['version']} is locked with two hashes")
            if one["scope"] == "required":
                before["scope"] = "required"
    return list(found.values())


def _of_npm(lock: Path, path: str, entry: Mapping[str, Any]) -> Component:
    # Under another name than its own (npm:) it lies where that says, and has its own beside it.
    name = str(entry.get("name") or path.rpartition("node_modules/")[2])
    if not entry.get("version") or not entry.get("integrity"):
        raise ValueError(f"{lock}: {path}: a version and its hash (integrity) are needed")
    purl = f"pkg:npm/{quote(name, safe='/')}@{quote(str(entry['version']), safe='')}"
    group, _, plain = name.rpartition("/")
    one: Component = {
        "bom-ref": purl,
        "purl": purl,
        "type": "library",
        "name": plain,
        "version": entry["version"],
        "scope": "optional" if entry.get("optional") else "required",
        "hashes": list(_hashes(str(entry["integrity"]))),
    }
    if group:
        one["group"] = group
    if entry.get("license"):
        one["licenses"] = [_licence(str(entry["license"]))]
    return one


def _hashes(integrity: str) -> Iterator[dict[str, str]]:
    """Read Subresource Integrity, https://www.w3.org/TR/SRI/."""
    for each in integrity.split():
        name, _, value = each.partition("-")
        yield {"alg": _HASHES[name], "content": base64.b64decode(value, validate=True).hex()}


def _licence(text: str) -> dict[str, Any]:
    if is_supported_id(text):
        return {"license": {"id": text}}
    return {"expression": text} if is_expression(text) else {"license": {"name": text}}


def debian_components() -> list[Component]:
    """Give the packages that images ask Debian for, with who asks. What every image has is required."""
    asked: dict[str, list[str]] = {}
    always = set[str](HOST_PACKAGES) | set(SANDBOX_PACKAGES)
    for name in (*HOST_PACKAGES, *SANDBOX_PACKAGES):
        asked.setdefault(name, []).append("every image")
    for name in own_root.PACKAGES:
        asked.setdefault(name, []).append("an image with a root of its own")
    for kind, each in [("language", each) for each in load_languages()] + [("group", each) for each in load_groups()]:
        for name in each.packages.debian:
            asked.setdefault(name, []).append(f"{kind} {each.name}")
        if kind == "language" and each.name in ALWAYS:
            always |= set(each.packages.debian)
    return [_of_debian(name, sorted(set(whom)), required=name in always) for name, whom in asked.items()]


def _of_debian(name: str, whom: Sequence[str], *, required: bool) -> Component:
    purl = f"pkg:deb/debian/{quote(name, safe='')}"
    told = [("gaoler:asked-for-by", each) for each in whom] + [("gaoler:version", _OF_THE_HOST)]
    return {
        "bom-ref": purl,
        "purl": purl,
        "type": "library",
        "name": name,
        "scope": "required" if required else "optional",
        "properties": [{"name": key, "value": value} for key, value in told],
    }
