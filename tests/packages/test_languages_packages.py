"""What programs of each language can import is there, and works: not only its name."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from supervisor.runtimes.catalogue import NPM_PROJECTS
from tests.daemon import Daemon
from tests.node import old_node
from tests.packages.places import made, run
from tests.packages.png import decode

pytestmark = pytest.mark.root

NPM = json.loads((NPM_PROJECTS / "javascript" / "package.json").read_text())["dependencies"]
LIBRARIES = [name for name in NPM if not name.startswith("@types/")]
# With Debian 12's Node.js 18 an ES module cannot be required, and a package that does not say what it is not imported.
ONLY_IMPORTED = {"nanoid"}
ONLY_REQUIRED = {"pptxgenjs"}
R = [
    "data.table",
    "dplyr",
    "ggplot2",
    "jsonlite",
    "lubridate",
    "openxlsx",
    "readr",
    "readxl",
    "stringr",
    "svglite",
    "tidyr",
]
PYTHON = [
    "docx",
    "fpdf",
    "markdown",
    "openpyxl",
    "pdfplumber",
    "pptx",
    "pypdf",
    "reportlab",
    "tabulate",
    "xlsxwriter",
    "yaml",
]


@pytest.mark.usefixtures("javascript")
def test_every_library_can_be_required(daemon: Daemon) -> None:
    names = [name for name in LIBRARIES if name not in ONLY_IMPORTED]
    code = f"""
for (const name of {json.dumps(names)}) {{
  const library = require(name);
  console.log(name, typeof library === "function" || Object.keys(library).length > 0);
}}
"""
    assert run(daemon, "js", code)["stdout"].splitlines() == [f"{name} true" for name in names]


@pytest.mark.usefixtures("javascript")
def test_every_library_can_be_imported(daemon: Daemon) -> None:
    names = [name for name in LIBRARIES if name not in ONLY_REQUIRED]
    code = f"""
async function main() {{
  for (const name of {json.dumps(names)}) console.log(name, Object.keys(await import(name)).length > 0);
}}
main();
"""
    assert run(daemon, "js", code)["stdout"].splitlines() == [f"{name} true" for name in names]


@pytest.mark.usefixtures("typescript")
def test_typescript_knows_the_types_of_the_libraries(daemon: Daemon) -> None:
    code = (Path(__file__).resolve().parent / "readers" / "libraries.ts").read_text()
    if old_node(daemon):
        # Its file for import is called .js and has no word beside it: docs/packages.md.
        code = code.replace('import pptxgen from "pptxgenjs";', 'const pptxgen = require("pptxgenjs");')
    assert run(daemon, "ts", code)["stdout"].startswith("3 [ { a: 1 } ] function")
    wrong = daemon.execute(code.replace("_.sum([1, 2])", '_.capitalize("x")'), "ts")
    assert "Type 'string' is not assignable to type 'number'" in wrong["stderr"]
    assert wrong["stdout"] == ""


@pytest.mark.usefixtures("javascript")
def test_sharp_scales_a_picture_and_makes_another_kind_of_it(daemon: Daemon) -> None:
    code = """
const sharp = require("sharp");
const source = sharp({ create: { width: 80, height: 40, channels: 3, background: { r: 30, g: 120, b: 180 } } });
source.jpeg({ quality: 100 }).toBuffer().then((jpeg) => sharp(jpeg).resize(20, 10).png().toFile("small.png"));
"""
    picture = decode(made(daemon, run(daemon, "js", code))["small.png"])
    assert (picture.width, picture.height) == (20, 10)
    (red, green, blue), count = max(picture.colours.items(), key=lambda each: each[1])
    assert count == 200
    assert (abs(red - 30), abs(green - 120), abs(blue - 180)) <= (3, 3, 3)


@pytest.mark.usefixtures("javascript")
def test_tables_go_from_kind_to_kind_in_javascript(daemon: Daemon) -> None:
    code = """
const XLSX = require("xlsx");
const Papa = require("papaparse");
const { stringify } = require("csv-stringify/sync");
const rows = Papa.parse("name,n\\nZürich,3\\nOslo,4", { header: true, dynamicTyping: true }).data;
const book = XLSX.utils.book_new();
XLSX.utils.book_append_sheet(book, XLSX.utils.json_to_sheet(rows), "S");
XLSX.writeFile(book, "a.xlsx");
const back = XLSX.utils.sheet_to_json(XLSX.readFile("a.xlsx").Sheets.S);
process.stdout.write(stringify(back, { header: true }));
"""
    assert run(daemon, "js", code)["stdout"] == "name,n\nZürich,3\nOslo,4\n"


@pytest.mark.usefixtures("r")
def test_every_package_of_r_can_be_loaded_and_says_nothing_wrong(daemon: Daemon) -> None:
    code = "".join(f"suppressPackageStartupMessages(library({name}))\n" for name in R) + 'cat("all of them\\n")'
    result = run(daemon, "r", code)
    assert result["stdout"] == "all of them\n"
    assert "Error" not in result["stderr"]


@pytest.mark.usefixtures("r")
def test_tables_go_from_kind_to_kind_in_r(daemon: Daemon) -> None:
    code = """
library(dplyr, warn.conflicts = FALSE)
library(tidyr)
table <- readr::read_csv("name,spring,autumn\\nZürich,3,4\\nOslo,5,6", show_col_types = FALSE)
long <- pivot_longer(table, c(spring, autumn), names_to = "season")
openxlsx::write.xlsx(long, "a.xlsx")
sums <- readxl::read_excel("a.xlsx") %>% group_by(name) %>% summarise(n = sum(value))
cat(jsonlite::toJSON(sums), "\\n")
cat(data.table::as.data.table(sums)[n > 7, stringr::str_to_upper(name)], "\\n")
"""
    told = run(daemon, "r", code)["stdout"].splitlines()
    assert json.loads(told[0]) == [{"name": "Oslo", "n": 11}, {"name": "Zürich", "n": 7}]
    assert told[1].strip() == "OSLO"


@pytest.mark.parametrize("name", PYTHON)
def test_python_has_what_documents_need(daemon: Daemon, name: str) -> None:
    assert run(daemon, "py", f"import {name}; print({name}.__name__)")["stdout"] == f"{name}\n"


def test_python_reads_the_table_of_a_pdf_that_another_library_wrote(daemon: Daemon) -> None:
    code = """
import fpdf, pdfplumber
pdf = fpdf.FPDF()
pdf.add_font("DejaVu", fname="/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")
pdf.set_font("DejaVu")
pdf.add_page()
with pdf.table(first_row_as_headings=False) as table:
    for line in (("name", "n"), ("Zürich", "3")):
        table.row(line)
pdf.output("a.pdf")
print(pdfplumber.open("a.pdf").pages[0].extract_table())
"""
    assert run(daemon, "py", code)["stdout"] == "[['name', 'n'], ['Zürich', '3']]\n"


def test_the_lists_here_are_those_that_are_installed() -> None:
    languages = Path(NPM_PROJECTS).parent / "languages"
    debian = tomllib.loads((languages / "r.toml").read_text())["packages"]["debian"]
    assert sorted(f"r-cran-{name.lower()}" for name in R) == [name for name in debian if name.startswith("r-cran-")]
