"""Checks an Office file as ECMA-376 describes its package (part 2), without any library that writes such files."""

from __future__ import annotations

import io
import posixpath
import zipfile
from xml.etree import ElementTree as ET

_TYPES = "{http://schemas.openxmlformats.org/package/2006/content-types}"
_LINKS = "{http://schemas.openxmlformats.org/package/2006/relationships}"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_MAIN = {
    "docx": ("wordprocessingml.document.main+xml", "wordprocessingml/2006/main}document"),
    "xlsx": ("spreadsheetml.sheet.main+xml", "spreadsheetml/2006/main}workbook"),
    "pptx": ("presentationml.presentation.main+xml", "presentationml/2006/main}presentation"),
}


def faults(content: bytes, kind: str) -> list[str]:
    """Give what is wrong with the package: parts without a type, links to nothing, broken XML, another kind of document."""
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        broken = package.testzip()
        parts = {name: package.read(name) for name in package.namelist() if not name.endswith("/")}
        twice = len([name for name in package.namelist() if not name.endswith("/")]) - len(parts)
    found = [f"{broken}: broken"] if broken else []
    found += [f"{twice} names twice"] if twice else []
    trees: dict[str, ET.Element] = {}
    for name, data in parts.items():
        if name.endswith((".xml", ".rels")):
            try:
                trees[name] = ET.fromstring(data)
            except ET.ParseError as error:
                found.append(f"{name}: {error}")
    types = _types(trees["[Content_Types].xml"], parts)
    found += [f"{name}: no content type" for name in parts if name != "[Content_Types].xml" and name not in types]
    links = {name: _targets(name, tree) for name, tree in trees.items() if name.endswith(".rels")}
    found += [
        f"{name}: leads to {target}" for name, targets in links.items() for _, target in targets if target not in parts
    ]
    main = [target for link_type, target in links["_rels/.rels"] if link_type == _OFFICE]
    content_type, root = _MAIN[kind]
    if len(main) != 1 or not types[main[0]].endswith(content_type) or not trees[main[0]].tag.endswith(root):
        found.append(f"the document is {main}, and no {kind}")
    return found


def _types(tree: ET.Element, parts: dict[str, bytes]) -> dict[str, str]:
    by_ending = {each.attrib["Extension"].lower(): each.attrib["ContentType"] for each in tree.iter(f"{_TYPES}Default")}
    by_name = {
        each.attrib["PartName"].lstrip("/"): each.attrib["ContentType"] for each in tree.iter(f"{_TYPES}Override")
    }
    types = {name: by_ending.get(name.rpartition(".")[2].lower(), "") for name in parts}
    return {name: kind for name, kind in (types | by_name).items() if kind}


def _targets(name: str, tree: ET.Element) -> list[tuple[str, str]]:
    """Give type and target of each link that leads to another part."""
    folder = posixpath.dirname(posixpath.dirname(name))
    inside = [each for each in tree.iter(f"{_LINKS}Relationship") if each.attrib.get("TargetMode") != "External"]
    paths = [posixpath.normpath(posixpath.join("/", folder, each.attrib["Target"])).lstrip("/") for each in inside]
    return list(zip((each.attrib["Type"] for each in inside), paths, strict=True))
