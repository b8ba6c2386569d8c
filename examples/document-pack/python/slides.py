"""Two slides for the yearly meeting: a title, and a chart that can still be edited."""

import pandas as pd
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE, XL_LEGEND_POSITION
from pptx.util import Inches

harvest = pd.read_csv("harvest.csv", index_col="crop")

slides = Presentation()
title = slides.slides.add_slide(slides.slide_layouts[0])
title.shapes.title.text = "Our harvest"
title.placeholders[1].text = f"{harvest.to_numpy().sum()} kg in one year"

data = CategoryChartData()
data.categories = list(harvest.index)
for season in harvest.columns:
    data.add_series(season, [int(value) for value in harvest[season]])
page = slides.slides.add_slide(slides.slide_layouts[5])
page.shapes.title.text = "What grew when"
place = Inches(0.8), Inches(1.6), Inches(8.4), Inches(5)
chart = page.shapes.add_chart(XL_CHART_TYPE.COLUMN_STACKED, *place, data).chart
chart.has_legend = True
chart.legend.position = XL_LEGEND_POSITION.BOTTOM
chart.legend.include_in_layout = False
page.notes_slide.notes_text_frame.text = "Thank everybody who watered in July."
slides.save("slides.pptx")
print("slides.pptx:", len(slides.slides), "slides")
