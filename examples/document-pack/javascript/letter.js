// A letter to the members, with the chart.
const fs = require("node:fs");
const { parse } = require("csv-parse/sync");
const docx = require("docx");
const { sum, sortBy } = require("lodash");

const { Document, HeadingLevel, ImageRun, Packer, Paragraph, Table, TableCell, TableRow, TextRun, WidthType } = docx;

const rows = sortBy(
  parse(fs.readFileSync("harvest.csv")).slice(1).map(([crop, ...numbers]) => [crop, sum(numbers.map(Number))]),
  ([, kilograms]) => -kilograms,
);
const total = sum(rows.map(([, kilograms]) => kilograms));

const row = (cells) => new TableRow({ children: cells.map((text) => new TableCell({ children: [new Paragraph(String(text))] })) });
const letter = new Document({
  title: "Our harvest",
  sections: [
    {
      children: [
        new Paragraph({ text: "Our harvest", heading: HeadingLevel.HEADING_1 }),
        new Paragraph("Dear members,"),
        new Paragraph({
          children: [
            new TextRun("this year the garden gave us "),
            new TextRun({ text: `${total} kg`, bold: true }),
            new TextRun(`. The most came from: ${rows[0][0]}.`),
          ],
        }),
        new Paragraph({
          children: [
            new ImageRun({ type: "png", data: fs.readFileSync("chart.png"), transformation: { width: 560, height: 315 } }),
          ],
        }),
        new Table({ width: { size: 100, type: WidthType.PERCENTAGE }, rows: [row(["Crop", "kg"]), ...rows.map(row)] }),
      ],
    },
  ],
});

Packer.toBuffer(letter).then((bytes) => {
  fs.writeFileSync("letter.docx", bytes);
  console.log("letter.docx");
});
