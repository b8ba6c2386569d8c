/* How the daemon is doing: load, pool, latencies, outcomes. */

import { barChart, figure, gauge, loadChart, spread } from "./charts.js";
import { card, el, foreign, head } from "./dom.js";
import { bytes, count, seconds } from "./format.js";
import { OUTCOMES } from "./records.js";
import { Table } from "./table.js";

const STEPS = {
  inputs: "Inputs", admission: "Waiting", cell: "Sandbox", code: "Running", export: "Results", whole: "Whole",
};

export const overview = {
  id: "overview",
  title: "Overview",
  open({ feed, role }) {
    const tiles = makeTiles(role);
    const load = loadChart();
    const minutes = barChart((values) =>
      `Executions of each minute of the last hour: ${values.at(-1) ?? 0} in the latest, at most ${Math.max(0, ...values)}`);
    const [now, most] = [el("span"), el("span")];
    const latencies = latencyTable();
    const outcomes = outcomeTable();
    const pools = poolTable(role);
    const draw = () => {
      const { overview: seen, samples } = feed;
      if (!seen) return;
      tiles.update(seen);
      load.update(samples, seen.load?.places);
      const values = seen.per_minute ?? [];
      minutes.update(values);
      now.textContent = `${count(values.at(-1) ?? 0)} in this minute`;
      most.textContent = `at most ${count(Math.max(0, ...values))}`;
      const longest = Math.max(...Object.values(seen.latencies ?? {}).map(({ p99 }) => p99), 0.001);
      latencies.update(Object.keys(STEPS).filter((step) => seen.latencies?.[step])
        .map((step) => ({ step, longest, ...seen.latencies[step] })));
      outcomes.update(rows(seen.totals?.outcomes ?? {}));
      pools.update(seen.pools ?? []);
    };
    const close = feed.subscribe(draw);
    draw();
    const nodes = [
      head("Overview"),
      tiles.node,
      el("div", { class: "columns" },
        card("Load", figure(load, "last 5 minutes", "dashed: places")),
        card("Executions per minute", figure(minutes, "an hour ago", most, now))),
      el("div", { class: "columns" },
        card("Latency", latencies.node, el("p", { class: "muted small" }, "Of the latest thousand; bars: p50, p95 and p99, logarithmic.")),
        el("div", { class: "columns" }, card("Outcomes", outcomes.node), card("Sandboxes that wait", pools.node))),
    ];
    return { nodes, close };
  },
};

function makeTiles(role) {
  const node = el("dl", { class: "tiles" });
  const tile = (name, meter = null) => {
    const value = el("dd");
    node.append(el("div", { class: "card tile" }, el("dt", {}, name), value, meter && el("dd", {}, meter.node)));
    return (main, rest = "") => {
      if (value.dataset.said === `${main}|${rest}`) return;
      value.dataset.said = `${main}|${rest}`;
      value.replaceChildren(main, ...(rest ? [el("small", {}, ` ${rest}`)] : []));
    };
  };
  const used = gauge();
  const say = {
    running: tile("Running", used), waiting: tile("Waiting"), live: tile("Live sessions"), done: tile("Executions"),
    cpu: tile("CPU time"),
    // A gateway runs nothing that could want of its host.
    ...(role === "gateway" ? {} : { memory: tile("Memory free"), disk: tile("Disk free"), shedding: tile("Short of") }),
  };
  const update = ({ load = {}, totals = {} }) => {
    const { shedding = [] } = load;
    used.update(load.running, load.places);
    say.running(count(load.running), `of ${count(load.places)} places`);
    say.waiting(count(load.waiting));
    say.live(count(load.live_sessions), load.programs_waiting ? `${count(load.programs_waiting)} wait for tools` : "");
    say.done(count(totals.executions), "since the start");
    say.cpu(seconds(totals.cpu_seconds), Number.isFinite(load.cpu_percent) ? `${Math.round(load.cpu_percent)} % now` : "");
    if (role === "gateway") return;
    say.memory(bytes(load.memory_free_bytes));
    say.disk(bytes(load.disk_free_bytes));
    say.shedding(shedding.length ? shedding.join(", ") : "nothing", shedding.length ? "new work is refused" : "");
  };
  return { node, update };
}

function latencyTable() {
  return new Table("Latency by phase", [
    { title: "Phase", kind: "name", show: ({ step }) => STEPS[step] },
    { title: "p50", kind: "number", show: ({ p50 }) => seconds(p50) },
    { title: "p95", kind: "number", show: ({ p95 }) => seconds(p95) },
    { title: "p99", kind: "number", show: ({ p99 }) => seconds(p99) },
    { title: "Count", kind: "number spare", show: (row) => count(row.count) },
    { title: "Spread", kind: "wide spare", draw: (row) => spread(row, row.longest) },
  ], { key: ({ step }) => step, empty: "Nothing has been executed yet.", narrow: true });
}

function outcomeTable() {
  return new Table("Outcomes", [
    { title: "Outcome", kind: "name", show: ({ outcome }) => OUTCOMES[outcome]?.word ?? outcome },
    { title: "Count", kind: "number", show: (row) => count(row.number) },
    { title: "Part", kind: "number", show: ({ part }) => `${part < 0.01 && part > 0 ? "<1" : Math.round(part * 100)} %` },
  ], { key: ({ outcome }) => outcome, empty: "Nothing has been executed yet.", narrow: true });
}

function rows(outcomes) {
  const whole = Object.values(outcomes).reduce((sum, number) => sum + number, 0);
  return Object.entries(outcomes).sort(([, a], [, b]) => b - a).map(([outcome, number]) => ({ outcome, number, part: number / whole }));
}

function poolTable(role) {
  return new Table("Sandboxes that wait", [
    { title: "Policy", show: ({ policy }) => foreign(policy) },
    { title: "Profile", show: ({ profile }) => profile ?? "bare" },
    { title: "Waiting", kind: "number", show: ({ waiting }) => count(waiting) },
    { title: "Floor", kind: "number", show: ({ floor }) => count(floor) },
    { title: "Ceiling", kind: "number", show: ({ ceiling }) => count(ceiling) },
  ], { key: ({ policy, profile }) => `${policy}/${profile}`, empty: role === "gateway" ? "The sandboxes of a fleet wait at its workers." : "No sandboxes are kept ready here.", narrow: true });
}
