"""The harvest as a spreadsheet: sums are formulas, so that they follow when somebody corrects a number."""

import csv
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

with Path("harvest.csv").open(encoding="utf-8", newline="") as file:
    head, *rows = csv.reader(file)

book = Workbook()
sheet = book.active
sheet.title = "Harvest"
sheet.append([*head, "all year"])
for number, (crop, *kilograms) in enumerate(rows, start=2):
    sheet.append([crop, *map(int, kilograms), f"=SUM(B{number}:D{number})"])
last = len(rows) + 1
sheet.append(["Sum", *(f"=SUM({letter}2:{letter}{last})" for letter in "BCDE")])
for cell in (*sheet[1], *sheet[last + 1]):
    cell.font = Font(bold=True)
for column in range(1, 6):
    sheet.column_dimensions[get_column_letter(column)].width = 12
sheet.freeze_panes = "B2"
book.save("harvest.xlsx")
print("harvest.xlsx:", len(rows), "crops")
