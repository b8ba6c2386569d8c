// Say in JSON what is in the documents of the working directory, read with JavaScript's libraries.
const fs = require("node:fs");
const cheerio = require("cheerio");
const ExcelJS = require("exceljs");
const JSZip = require("jszip");
const mammoth = require("mammoth");
const { PDFDocument } = require("pdf-lib");

const xml = async (zip, name) => cheerio.load(await zip.file(name).async("string"), { xml: true });
const texts = ($, selector) => $(selector).toArray().map((each) => $(each).text());

async function main() {
  const book = await new ExcelJS.Workbook().xlsx.readFile("harvest.xlsx");
  const cells = [];
  book.getWorksheet("Harvest").eachRow((row) => cells.push(row.values.slice(1)));
  const formula = (value) => typeof value === "object" && value.formula;

  const $ = cheerio.load((await mammoth.convertToHtml({ path: "letter.docx" })).value);
  const table = $("tr").toArray().map((row) => $(row).children().toArray().map((cell) => $(cell).text()));
  const pictures = $("img").length;
  $("table").remove();

  const zip = await JSZip.loadAsync(fs.readFileSync("slides.pptx"));
  const pages = await Promise.all([1, 2].map((number) => xml(zip, `ppt/slides/slide${number}.xml`)));
  const chart = await xml(zip, Object.keys(zip.files).find((name) => /^ppt\/charts\/chart[^/]*\.xml$/.test(name)));
  const series = chart("c\\:ser").toArray().map((each) => [
    chart(each).find("c\\:tx c\\:v").text(),
    chart(each).find("c\\:val c\\:v").toArray().map((value) => Number(chart(value).text())),
  ]);
  const notes = await xml(zip, Object.keys(zip.files).filter((name) => /^ppt\/notesSlides\/[^/]*\.xml$/.test(name)).at(-1));

  const report = await PDFDocument.load(fs.readFileSync("report.pdf"));

  const facts = {
    formulas: cells.flat().filter(formula).map((value) => value.formula).sort(),
    numbers: cells.map((row) => row.filter((value) => !formula(value))),
    paragraphs: texts($, "h1, p").filter((text) => text),
    pictures,
    table,
    slides: pages.map((page) => texts(page, "p\\:sp").filter((text) => text)),
    categories: chart("c\\:ser").first().find("c\\:cat c\\:v").toArray().map((each) => chart(each).text()),
    series: Object.fromEntries(series),
    notes: texts(notes, "a\\:t").join("").replace(/\d+$/, ""),
    pages: report.getPageCount(),
    title: report.getTitle(),
  };
  console.log(JSON.stringify(facts));
}

main();
