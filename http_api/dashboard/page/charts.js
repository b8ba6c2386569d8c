/* Charts, drawn by ourselves. Each says in words what it shows; the figures stand beside it, too. */

import { el, svg } from "./dom.js";

const WIDTH = 300;
const HEIGHT = 60;

function frame(kind) {
  return svg("svg", { class: `chart ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
}

/** A line over time with what waits above it; `update(samples, places)`. */
export function loadChart() {
  const node = frame("");
  const update = (samples, places) => {
    const most = Math.max(1, places || 0, ...samples.map(({ running, waiting }) => running + waiting));
    const step = WIDTH / 149;
    const x = (at) => (WIDTH - (samples.length - 1 - at) * step).toFixed(1);
    const y = (value) => (HEIGHT - (value / most) * (HEIGHT - 4)).toFixed(1);
    const line = (of) => samples.map((sample, at) => `${at ? "L" : "M"}${x(at)} ${y(of(sample))}`).join("");
    const area = (of) => `${line(of)}L${WIDTH} ${HEIGHT}L${x(0)} ${HEIGHT}Z`;
    const all = ({ running, waiting }) => running + waiting;
    node.replaceChildren(
      svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
      ...(samples.length ? [
        svg("path", { class: "faint", d: area(all) }),
        svg("path", { class: "area", d: area(({ running }) => running) }),
        svg("path", { class: "line", d: line(({ running }) => running) }),
      ] : []),
      ...(places ? [svg("line", { class: "thin", x1: 0, x2: WIDTH, y1: y(places), y2: y(places) })] : []),
    );
    const { running = 0, waiting = 0 } = samples.at(-1) ?? {};
    node.setAttribute("aria-label", `Load of the last minutes: now ${running} running and ${waiting} waiting, ${places || "no known"} places`);
  };
  update([], 0);
  return { node, update };
}

/** Bars, one for each value; `name(values)` puts it into words. */
export function barChart(name, kind = "") {
  const node = frame(kind);
  const update = (values) => {
    const most = Math.max(1, ...values);
    const step = WIDTH / Math.max(1, values.length);
    const gap = Math.min(2, step * 0.2);
    node.replaceChildren(
      svg("line", { class: "base", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
      ...values.map((value, at) => {
        const height = value ? Math.max(1.5, (value / most) * (HEIGHT - 2)) : 0;
        return svg("rect", { class: "bar", x: (at * step + gap / 2).toFixed(2), y: (HEIGHT - height).toFixed(2),
          width: (step - gap).toFixed(2), height: height.toFixed(2) });
      }),
    );
    node.setAttribute("aria-label", name(values));
  };
  update([]);
  return { node, update };
}

/** How much of a whole is used. Words stand beside it. */
export function gauge() {
  const used = svg("rect", { height: 4, width: 0 });
  const node = svg("svg", { class: "gauge", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { height: 4, width: 100 }), used);
  const update = (value, whole) => {
    const part = whole ? Math.min(100, (value / whole) * 100) : 0;
    used.setAttribute("width", part.toFixed(1));
    node.classList.toggle("full", part >= 100);
  };
  return { node, update };
}

/** Three percentiles on one scale, logarithmic from 0.1 ms to `most` seconds. */
export function spread({ p50, p95, p99 }, most) {
  const place = (value) => Math.min(100, Math.max(1, (Math.log(Math.max(value, 1e-4) / 1e-4) / Math.log(Math.max(most, 1e-3) / 1e-4)) * 100));
  const bar = (kind, value) => svg("rect", { class: kind, y: 2, height: 10, width: place(value).toFixed(1) });
  return svg("svg", { class: "spread", viewBox: "0 0 100 14", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "ground", y: 2, height: 10, width: 100 }), bar("p99", p99), bar("p95", p95), bar("p50", p50));
}

/** Put a chart together with what stands below it. */
export function figure(chart, ...foot) {
  return el("figure", {}, chart.node, el("figcaption", { class: "chart-foot" }, ...foot.map((word) => (typeof word === "string" ? el("span", {}, word) : word))));
}
