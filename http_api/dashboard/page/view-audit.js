/* What operators did, and what they were refused. */

import { button, card, choice, el, field, foreign, head, pill } from "./dom.js";
import { moment } from "./format.js";
import { polling } from "./polling.js";
import { Table } from "./table.js";

const KINDS = [["all", "everything"], ["acts", "acts of operators"], ["refused", "who was refused"]];
const OUTCOME = { done: "good", begun: "", failed: "bad" };

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
      { title: "Outcome", show: ({ outcome }) => pill(outcome, OUTCOME[outcome] ?? "warn") },
      { title: "Detail", kind: "wide", show: ({ detail }) => foreign(detail) },
    ], { key: ({ id, time, act, outcome }) => JSON.stringify([id, time, act, outcome]), empty: "Nobody has done anything.", bound: 300 });
    const asking = polling(() => api.get("audit", { limit: 300, kind: kind.value }), ({ entries }) => table.update(entries), 15);
    return { nodes: [head("Audit", field("Show", kind), button("Refresh", asking.refresh)), asking.node, card("Acts of operators", table.node)], refresh: asking.refresh, close: asking.close };
  },
};
