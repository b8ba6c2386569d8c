"""Say in JSON what is in the documents of the working directory, read with Python's libraries."""

import json

import docx
import openpyxl
import pptx
import pypdf

book = openpyxl.load_workbook("harvest.xlsx")
cells = [[cell.value for cell in row] for row in book["Harvest"].iter_rows()]

letter = docx.Document("letter.docx")
table = [[cell.text for cell in row.cells] for row in letter.tables[0].rows]

slides = pptx.Presentation("slides.pptx").slides
texts = [[shape.text_frame.text for shape in slide.shapes if shape.has_text_frame] for slide in slides]
charts = [shape.chart for slide in slides for shape in slide.shapes if shape.has_chart]

report = pypdf.PdfReader("report.pdf")

facts = {
    "formulas": sorted(str(value).removeprefix("=") for row in cells for value in row if str(value).startswith("=")),
    "numbers": [[value for value in row if not str(value).startswith("=")] for row in cells],
    "paragraphs": [paragraph.text for paragraph in letter.paragraphs if paragraph.text],
    "pictures": sum("/media/" in str(part.partname) for part in letter.part.package.iter_parts()),
    "table": table,
    "slides": [[text for text in page if text] for page in texts],
    "categories": list(charts[0].plots[0].categories),
    "series": {series.name: list(series.values) for series in charts[0].plots[0].series},
    "notes": slides[1].notes_slide.notes_text_frame.text,
    "pages": len(report.pages),
    "title": report.metadata.title,
}
print(json.dumps(facts))
