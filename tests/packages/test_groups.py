"""The groups that the image has do in a sandbox, with the limits of the default policy, what people want of them."""

from __future__ import annotations

import pytest

from supervisor.runtimes.catalogue import Group, load_groups
from tests.daemon import Daemon
from tests.packages.places import made, need, run
from tests.packages.png import decode

pytestmark = pytest.mark.root

IDENTITY = r"""
from fontTools.ttLib import TTFont

# A page whose font is coded by glyph numbers (Identity-H), as browsers, Cairo and most office programs write it.
path = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
font = TTFont(path)
glyphs = [font.getGlyphID(font.getBestCmap()[ord(letter)]) for letter in "Hello"]
data = open(path, "rb").read()
text = "".join(f"{glyph:04x}" for glyph in glyphs)
page = f"BT /F 72 Tf 20 30 Td <{text}> Tj ET".encode()
objects = [
    b"<< /Type /Catalog /Pages 2 0 R >>",
    b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
    b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
    b"<< /Length %d >> stream\n%s\nendstream" % (len(page), page),
    b"<< /Type /Font /Subtype /Type0 /BaseFont /DejaVuSans /Encoding /Identity-H /DescendantFonts [6 0 R] >>",
    b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /DejaVuSans /CIDToGIDMap /Identity /DW 600 /FontDescriptor 7 0 R"
    b" /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>",
    b"<< /Type /FontDescriptor /FontName /DejaVuSans /Flags 4 /FontBBox [0 0 1000 1000] /ItalicAngle 0 /Ascent 900"
    b" /Descent -200 /CapHeight 700 /StemV 80 /FontFile2 8 0 R >>",
    b"<< /Length %d /Length1 %d >> stream\n%s\nendstream" % (len(data), len(data), data),
]
body, places = b"%PDF-1.5\n", []
for number, each in enumerate(objects, start=1):
    places.append(len(body))
    body += b"%d 0 obj\n%s\nendobj\n" % (number, each)
table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
open("hello.pdf", "wb").write(body + table + trailer)
"""


@pytest.mark.parametrize("group", load_groups(), ids=lambda group: group.name)
def test_a_group_passes_its_own_smoke_test(daemon: Daemon, groups: frozenset[str], group: Group) -> None:
    need(groups, group.name)
    assert run(daemon, "bash", group.smoke.code)["stdout"] == group.smoke.stdout


@pytest.mark.parametrize("group", load_groups(), ids=lambda group: group.name)
def test_a_group_brings_the_programs_that_it_names(daemon: Daemon, groups: frozenset[str], group: Group) -> None:
    need(groups, group.name)
    code = f"for name in {' '.join(group.programs)}; do command -v $name > /tmp/log || echo $name; done"
    assert run(daemon, "bash", code)["stdout"] == ""


def test_libreoffice_keeps_its_settings_out_of_the_results(daemon: Daemon, groups: frozenset[str]) -> None:
    need(groups, "office")
    result = run(
        daemon, "bash", "soffice --convert-to pdf a.csv > /tmp/log; ls -A", {"a.csv": "name,n\nZürich,3\n".encode()}
    )
    assert result["stdout"] == "a.csv\na.pdf\n"
    assert result["stderr"] == ""
    assert made(daemon, result)["a.pdf"].startswith(b"%PDF-")


def test_libreoffice_writes_every_kind(daemon: Daemon, groups: frozenset[str]) -> None:
    need(groups, "office")
    starts = {"docx": b"PK", "rtf": b"{\\", "png": b"\x89P"}
    code = f"""
for kind in {" ".join(starts)}; do
    soffice --convert-to $kind --outdir /tmp a.txt > /tmp/log 2>&1
    python3 -c 'import sys; print(open(sys.argv[1], "rb").read(2))' /tmp/a.$kind
done
"""
    told = run(daemon, "bash", code, {"a.txt": b"Hello world"})["stdout"].splitlines()
    assert told == [str(start) for start in starts.values()]


def test_ghostscript_draws_the_letters_of_fonts_that_are_coded_by_glyphs(
    daemon: Daemon, groups: frozenset[str]
) -> None:
    need(groups, "ghostscript")
    document = made(daemon, run(daemon, "py", IDENTITY))["hello.pdf"]
    code = "gs -q -dBATCH -dNOPAUSE -sDEVICE=png16m -r72 -sOutputFile=a.png hello.pdf"
    picture = decode(made(daemon, run(daemon, "bash", code, {"hello.pdf": document}))["a.png"])
    inked = [place % 300 for place in range(300 * 100) if picture.pixels[3 * place] < 128]
    # The stem of the H, and the o: other glyphs, or none, are drawn when the codes are not understood.
    assert 22 <= min(inked) <= 32
    assert 225 <= max(inked) <= 240


def test_imagemagick_keeps_to_the_hosts_policy(daemon: Daemon, groups: frozenset[str]) -> None:
    need(groups, "imagemagick")
    answer = daemon.execute("convert -size 9x9 xc:red a.pdf", "bash")
    assert "security policy" in answer["stderr"]
    assert "policy.xml" in run(daemon, "bash", "identify -list policy")["stdout"]
