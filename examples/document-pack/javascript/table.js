// The harvest as a spreadsheet: sums are formulas, so that they follow when somebody corrects a number.
const fs = require("node:fs");
const { parse } = require("csv-parse/sync");
const ExcelJS = require("exceljs");

const [head, ...rows] = parse(fs.readFileSync("harvest.csv"));

const book = new ExcelJS.Workbook();
const sheet = book.addWorksheet("Harvest", { views: [{ state: "frozen", xSplit: 1, ySplit: 1 }] });
sheet.columns = [...head, "all year"].map((header) => ({ header, width: 12 }));
rows.forEach(([crop, ...kilograms], index) => {
  const number = index + 2;
  const numbers = kilograms.map(Number);
  const result = numbers.reduce((sum, each) => sum + each);
  sheet.addRow([crop, ...numbers, { formula: `SUM(B${number}:D${number})`, result }]);
});
const last = rows.length + 1;
sheet.addRow(["Sum", ...["B", "C", "D", "E"].map((letter) => ({ formula: `SUM(${letter}2:${letter}${last})` }))]);
for (const number of [1, last + 1]) sheet.getRow(number).font = { bold: true };

book.xlsx.writeFile("harvest.xlsx").then(() => console.log(`harvest.xlsx: ${rows.length} crops`));
