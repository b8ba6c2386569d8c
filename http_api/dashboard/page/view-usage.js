/* What was used, day by day. */

import { barChart, figure } from "./charts.js";
import { button, card, el, field, foreign, head } from "./dom.js";
import { bytes, count, day, seconds } from "./format.js";
import { polling } from "./polling.js";
import { Table } from "./table.js";

const MOST = 1000;
const DAY_MS = 86_400_000;

export const usage = {
  id: "usage",
  title: "Usage",
  open({ api }) {
    const input = (name, date) => el("input", { type: "date", name, value: day(date), on: { change: () => asking.refresh() } });
    const from = input("from", new Date(Date.now() - 29 * DAY_MS));
    const to = input("to", new Date());
    const tenant = el("input", { type: "search", name: "tenant", on: { change: () => asking.refresh() } });
    const chart = barChart((values) => `Executions of each day: ${count(values.reduce((sum, value) => sum + value, 0))} in ${values.length} days`);
    const [first, whole, last] = [el("span"), el("span"), el("span")];
    const table = usageTable();
    const asking = polling(() => api.get("usage", { from: from.value, to: to.value, tenant: tenant.value.trim(), limit: MOST }), ({ days }) => {
      const named = days_between(from.value, to.value);
      const sums = new Map(named.map((name) => [name, 0]));
      for (const { day: name, executions } of days) sums.set(name, (sums.get(name) ?? 0) + executions);
      chart.update([...sums.values()]);
      [first.textContent, last.textContent] = [named[0] ?? "", named.at(-1) ?? ""];
      const whole_sum = [...sums.values()].reduce((sum, value) => sum + value, 0);
      whole.textContent = `${count(whole_sum)} ${whole_sum === 1 ? "execution" : "executions"}${days.length < MOST ? "" : " of the busiest part: narrow the days"}`;
      table.update([...days].sort((a, b) => b.day.localeCompare(a.day) || b.executions - a.executions));
    }, 30);
    const tools = [field("From", from), field("To", to), field("Tenant", tenant), button("Refresh", asking.refresh)];
    return { nodes: [head("Usage", ...tools), asking.node, card("Executions by day", figure(chart, first, whole, last)), card("By caller", table.node)], refresh: asking.refresh, close: asking.close };
  },
};

function days_between(from, to) {
  const found = [];
  const end = Date.parse(to);
  for (let at = Date.parse(from); at <= end && found.length < 400; at += DAY_MS) found.push(day(new Date(at)));
  return found;
}

function usageTable() {
  return new Table("Usage by caller and day", [
    { title: "Day", show: (row) => row.day },
    { title: "Tenant", show: ({ tenant }) => foreign(tenant) },
    { title: "Key", show: ({ credential }) => foreign(credential) },
    { title: "User", show: ({ user }) => el("span", { class: "cut" }, foreign(user ?? "")) },
    { title: "Executions", kind: "number", show: ({ executions }) => count(executions) },
    { title: "Failed", kind: "number", show: ({ failed }) => count(failed) },
    { title: "Time", kind: "number", show: ({ wall_seconds: value }) => seconds(value) },
    { title: "CPU", kind: "number", show: ({ cpu_seconds: value }) => seconds(value) },
    { title: "Output", kind: "number", show: ({ output_bytes: value }) => bytes(value) },
    { title: "Files", kind: "number", show: ({ files }) => count(files) },
  ], { key: (row) => JSON.stringify([row.day, row.tenant, row.credential, row.user]), empty: "Nothing was used in these days.", bound: 500 });
}
