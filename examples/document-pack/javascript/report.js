// One page for the notice board.
const fs = require("node:fs");
const { parse } = require("csv-parse/sync");
const PDFDocument = require("pdfkit");

const rows = parse(fs.readFileSync("harvest.csv"));
const total = rows.slice(1).flatMap(([, ...numbers]) => numbers.map(Number)).reduce((sum, each) => sum + each);

const report = new PDFDocument({ size: "A4", margin: 60, info: { Title: "Our harvest" } });
report.pipe(fs.createWriteStream("report.pdf")).on("finish", () => console.log("report.pdf"));
// The fonts that PDF readers bring know western European letters only.
report.font("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf");
report.fontSize(24).text("Our harvest", { align: "center" }).moveDown();
report.fontSize(11).text(`The garden gave us ${total} kg.`).moveDown();
report.image("chart.png", { width: 475 });
const top = 480;
rows.forEach((cells, line) => {
  cells.forEach((text, column) => report.text(text, 60 + column * 120, top + line * 20, { width: 110, align: column ? "right" : "left" }));
});
report.moveTo(60, top + 16).lineTo(535, top + 16).stroke();
report.end();
