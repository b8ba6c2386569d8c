// Two slides for the yearly meeting: a title, and a chart that can still be edited.
const fs = require("node:fs");
const { parse } = require("csv-parse/sync");
const PptxGenJS = require("pptxgenjs");

const rows = parse(fs.readFileSync("harvest.csv"), { columns: true });
const seasons = ["spring", "summer", "autumn"];
const total = rows.flatMap((row) => seasons.map((season) => Number(row[season]))).reduce((sum, each) => sum + each);

const slides = new PptxGenJS();
slides.title = "Our harvest";
const title = slides.addSlide();
title.addText("Our harvest", { x: 0.5, y: 1.8, w: 9, fontSize: 44, align: "center" });
title.addText(`${total} kg in one year`, { x: 0.5, y: 3, w: 9, fontSize: 24, align: "center" });

const page = slides.addSlide();
page.addText("What grew when", { x: 0.5, y: 0.4, w: 9, fontSize: 32 });
page.addChart(
  slides.ChartType.bar,
  seasons.map((name) => ({ name, labels: rows.map((row) => row.crop), values: rows.map((row) => Number(row[name])) })),
  { x: 0.8, y: 1.2, w: 8.4, h: 4, barGrouping: "stacked", showLegend: true, legendPos: "b" },
);
page.addNotes("Thank everybody who watered in July.");

slides.writeFile({ fileName: "slides.pptx" }).then(() => console.log("slides.pptx: 2 slides"));
