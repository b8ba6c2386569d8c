"""One page for the notice board."""

import csv
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.lib.units import cm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Spacer, Table

# The fonts that PDF readers bring know western European letters only.
pdfmetrics.registerFont(TTFont("DejaVu", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"))
styles = getSampleStyleSheet()
for style in ("Title", "BodyText"):
    styles[style].fontName = "DejaVu"

with Path("harvest.csv").open(encoding="utf-8", newline="") as file:
    rows = list(csv.reader(file))

table = Table(rows, colWidths=4 * cm)
table.setStyle([
    ("FONTNAME", (0, 0), (-1, -1), "DejaVu"),
    ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
    ("LINEBELOW", (0, 0), (-1, 0), 1, colors.black),
])  # fmt: skip
total = sum(int(number) for _, *numbers in rows[1:] for number in numbers)
page = [
    Paragraph("Our harvest", styles["Title"]),
    Paragraph(f"The garden gave us {total} kg.", styles["BodyText"]),
    Spacer(0, cm),
    Image("chart.png", width=16 * cm, height=9 * cm),
    Spacer(0, cm),
    table,
]
SimpleDocTemplate("report.pdf", pagesize=A4, title="Our harvest").build(page)
print("report.pdf")
