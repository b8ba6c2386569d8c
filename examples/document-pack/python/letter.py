"""A letter to the members, with the chart."""

import csv
from pathlib import Path

from docx import Document
from docx.shared import Cm

with Path("harvest.csv").open(encoding="utf-8", newline="") as file:
    rows = [(crop, sum(map(int, seasons))) for crop, *seasons in list(csv.reader(file))[1:]]
rows.sort(key=lambda row: -row[1])

letter = Document()
letter.core_properties.title = "Our harvest"
letter.add_heading("Our harvest", level=1)
letter.add_paragraph("Dear members,")
first = letter.add_paragraph("this year the garden gave us ")
first.add_run(f"{sum(kilograms for _, kilograms in rows)} kg").bold = True
first.add_run(f". The most came from: {rows[0][0]}.")
letter.add_picture("chart.png", width=Cm(15))
table = letter.add_table(rows=1, cols=2, style="Light Grid Accent 1")
table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Crop", "kg"
for crop, kilograms in rows:
    cells = table.add_row().cells
    cells[0].text, cells[1].text = crop, str(kilograms)
letter.save("letter.docx")
print("letter.docx")
