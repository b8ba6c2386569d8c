// The harvest as a chart, for documents (PNG) and for the web (SVG): the same drawing on two kinds of canvas.
const fs = require("node:fs");
const { parse } = require("csv-parse/sync");
const { createCanvas, SvgExportFlag } = require("@napi-rs/canvas");
const { Chart } = require("chart.js/auto");

const rows = parse(fs.readFileSync("harvest.csv"), { columns: true });
const seasons = { spring: "#8fbf6f", summer: "#e0a030", autumn: "#a05030" };

function draw(canvas) {
  Chart.defaults.font.size = canvas.width / 60;
  return new Chart(canvas, {
    type: "bar",
    data: {
      labels: rows.map((row) => row.crop),
      datasets: Object.entries(seasons).map(([season, backgroundColor]) => ({
        label: season,
        data: rows.map((row) => Number(row[season])),
        backgroundColor,
      })),
    },
    options: {
      animation: false,
      responsive: false,
      plugins: { title: { display: true, text: "Harvest of the year" } },
      scales: { x: { stacked: true }, y: { stacked: true, title: { display: true, text: "kg" } } },
    },
    // Without it the background is transparent: black in some readers.
    plugins: [
      {
        id: "white",
        beforeDraw({ ctx, width, height }) {
          ctx.fillStyle = "white";
          ctx.fillRect(0, 0, width, height);
        },
      },
    ],
  });
}

const picture = createCanvas(1200, 675);
draw(picture);
fs.writeFileSync("chart.png", picture.toBuffer("image/png"));

const drawing = createCanvas(800, 450, SvgExportFlag.NoPrettyXML);
draw(drawing);
fs.writeFileSync("chart.svg", drawing.getContent());
console.log("chart.png, chart.svg");
