"""What the document pack made is what it says, by readers that did not write it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.daemon import Daemon
from tests.packages.ooxml import faults
from tests.packages.places import files_of, need, run
from tests.packages.png import decode

pytestmark = pytest.mark.root

READERS = Path(__file__).resolve().parent / "readers"
WRITERS = ("python", "javascript")
CROPS = {"Tomatoes": [4, 61, 23], "Kürbis": [0, 12, 88], "Beans": [9, 37, 11], "Çilek": [26, 31, 2]}
FACTS = {
    "formulas": [
        *("SUM(B2:B5)", "SUM(B2:D2)", "SUM(B3:D3)", "SUM(B4:D4)", "SUM(B5:D5)"),
        *("SUM(C2:C5)", "SUM(D2:D5)", "SUM(E2:E5)"),
    ],
    "numbers": [
        ["crop", "spring", "summer", "autumn", "all year"],
        *([crop, *numbers] for crop, numbers in CROPS.items()),
        ["Sum"],
    ],
    "paragraphs": [
        "Our harvest",
        "Dear members,",
        "this year the garden gave us 304 kg. The most came from: Kürbis.",
    ],
    "pictures": 1,
    "table": [["Crop", "kg"], ["Kürbis", "100"], ["Tomatoes", "88"], ["Çilek", "59"], ["Beans", "57"]],
    "slides": [["Our harvest", "304 kg in one year"], ["What grew when"]],
    "categories": list(CROPS),
    "series": {
        season: [each[place] for each in CROPS.values()] for place, season in enumerate(("spring", "summer", "autumn"))
    },
    "notes": "Thank everybody who watered in July.",
    "pages": 1,
    "title": "Our harvest",
}
COLOURS = {bytes.fromhex("8fbf6f"): 39, bytes.fromhex("e0a030"): 141, bytes.fromhex("a05030"): 124}
"""Of the seasons in the charts, with their sums."""


@pytest.mark.parametrize(("writer", "reader"), [("python", "documents.js"), ("javascript", "documents.py")])
def test_the_other_language_reads_the_same_facts(daemon: Daemon, pack: Path, writer: str, reader: str) -> None:
    code = (READERS / reader).read_text()
    result = run(daemon, reader.rpartition(".")[2], code, files_of(pack / writer))
    assert json.loads(result["stdout"]) == FACTS


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("name", ["harvest.xlsx", "letter.docx", "slides.pptx"])
def test_an_office_file_is_a_sound_package(pack: Path, writer: str, name: str) -> None:
    assert faults((pack / writer / name).read_bytes(), name.rpartition(".")[2]) == []


@pytest.mark.parametrize("writer", WRITERS)
def test_the_picture_shows_each_season_as_large_as_it_was(pack: Path, writer: str) -> None:
    picture = decode((pack / writer / "chart.png").read_bytes())
    assert (picture.width, picture.height) == (1200, 675)
    areas = {colour[:3]: count for colour, count in picture.colours.items()}
    total = sum(areas[colour] for colour in COLOURS)
    assert total > picture.width * picture.height / 5
    for colour, kilograms in COLOURS.items():
        # Edges and the samples of the legend are a little beside it.
        assert areas[colour] / total == pytest.approx(kilograms / 304, abs=0.02)


@pytest.mark.parametrize("writer", WRITERS)
def test_the_drawing_is_svg_with_its_words_and_colours(pack: Path, writer: str) -> None:
    text = (pack / writer / "chart.svg").read_text()
    tree = ET.fromstring(text)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join("".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text")).split()
    assert "Harvest of the year" in " ".join(words)
    assert {"kg", *CROPS, "spring", "summer", "autumn"} <= set(words)
    for colour in COLOURS:
        assert f"#{colour.hex()}" in text.lower()


@pytest.mark.parametrize("writer", WRITERS)
def test_poppler_reads_the_report(daemon: Daemon, groups: frozenset[str], pack: Path, writer: str) -> None:
    need(groups, "poppler")
    code = "pdftotext -layout report.pdf -; pdfinfo report.pdf; pdfimages -list report.pdf; pdffonts report.pdf"
    output = run(daemon, "bash", code, files_of(pack / writer))["stdout"]
    lines = [line.split() for line in output.splitlines()]
    assert ["The", "garden", "gave", "us", "304", "kg."] in lines
    for crop, numbers in CROPS.items():
        assert [crop, *map(str, numbers)] in lines
    assert ["Title:", "Our", "harvest"] in lines
    assert ["Pages:", "1"] in lines
    assert "pts (A4)" in output
    assert any(line[2:5] == ["image", "1200", "675"] for line in lines)
    assert "DejaVu" in output


@pytest.mark.parametrize("writer", WRITERS)
def test_libreoffice_opens_all_of_them_and_computes_the_sums(
    daemon: Daemon, groups: frozenset[str], pack: Path, writer: str
) -> None:
    need(groups, "office")
    code = (
        "soffice --convert-to pdf --outdir /tmp letter.docx slides.pptx harvest.xlsx > /tmp/log 2>&1 || cat /tmp/log\n"
        "for name in letter slides harvest; do python3 -c 'import pypdf, sys\n"
        'for page in pypdf.PdfReader(sys.argv[1]).pages: print(page.extract_text(extraction_mode="layout"))\' /tmp/$name.pdf; done\n'
    )
    lines = [line.split() for line in run(daemon, "bash", code, files_of(pack / writer))["stdout"].splitlines()]
    assert [
        "this",
        "year",
        "the",
        "garden",
        "gave",
        "us",
        "304",
        "kg.",
        "The",
        "most",
        "came",
        "from:",
        "Kürbis.",
    ] in lines
    assert ["What", "grew", "when"] in lines
    assert ["Kürbis", "0", "12", "88", "100"] in lines
    assert ["Sum", "39", "141", "124", "304"] in lines


def test_pandoc_reads_the_letters(daemon: Daemon, groups: frozenset[str], pack: Path) -> None:
    need(groups, "pandoc")
    for writer in WRITERS:
        text = run(daemon, "bash", "pandoc --to plain --wrap none letter.docx", files_of(pack / writer))["stdout"]
        assert "this year the garden gave us 304 kg. The most came from: Kürbis." in text


def test_tesseract_reads_the_pictures(daemon: Daemon, groups: frozenset[str], pack: Path) -> None:
    need(groups, "tesseract")
    for writer in WRITERS:
        text = run(daemon, "bash", "tesseract chart.png - --psm 11 2> /tmp/log", files_of(pack / writer))["stdout"]
        assert {"Harvest", "of", "the", "year", "spring", "summer", "autumn", "Beans", "Tomatoes"} <= set(text.split())
