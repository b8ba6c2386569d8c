/* What operators did, and what they were refused. */

import { button, card, choice, el, field, foreign, head, pill } from "./dom.js";
import { moment } from "./format.js";
import { polling } from "./polling.js";
import { Table } from "./table.js";

const KINDS = [["", "everything"], ["keys", "keys"], ["egress", "network rules"], ["executions", "executions"], ["sessions", "sessions"], ["workers", "workers"]];

export const audit = {
  id: "audit",
  title: "Audit",
  open({ api }) {
    const kind = choice("kind", KINDS, () => asking.refresh());
    const table = new Table("Acts of operators, the latest first", [
      { title: "Time", show: ({ time }) => moment(time) },
      { title: "Who", show: ({ who }) => foreign(who) },
      { title: "From", show: ({ address }) => el("span", { class: "mono small" }, foreign(address ?? "")) },
      { title: "Act", show: ({ act }) => foreign(act) },
      { title: "On", kind: "wide", show: ({ target }) => el("span", { class: "mono small" }, foreign(target ?? "")) },
      { title: "Outcome", show: ({ outcome }) => pill(outcome, ["done", "ok"].includes(outcome) ? "good" : "warn") },
      { title: "Detail", kind: "wide", show: ({ detail }) => foreign(detail && typeof detail === "object" ? JSON.stringify(detail) : detail ?? "") },
    ], { key: ({ key }) => key, empty: "Nobody has done anything.", bound: 300 });
    const asking = polling(() => api.get("audit", { limit: 300, kind: kind.value }), ({ entries }) => {
      const seen = new Map();
      table.update(entries.map((entry) => {
        const text = JSON.stringify(entry);
        seen.set(text, (seen.get(text) ?? 0) + 1);
        return { ...entry, key: `${text}${seen.get(text)}` };
      }));
    }, 15);
    return { nodes: [head("Audit", field("About", kind), button("Refresh", asking.refresh)), asking.node, card("Acts of operators", table.node)], close: asking.close };
  },
};
