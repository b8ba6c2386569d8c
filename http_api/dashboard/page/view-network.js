/* The network: what was refused and how it could be allowed, the rules that hold, and the log. */

import { openDialog } from "./dialog.js";
import { announce, button, card, choice, el, facts, field, foreign, head, pill, plain } from "./dom.js";
import { count, moment } from "./format.js";
import { polling } from "./polling.js";
import { who } from "./records.js";
import { makeRuleSets } from "./rule-sets.js";
import { Table } from "./table.js";

const REFUSALS = 1000;
const REFRESH_SECONDS = 5;

export const network = {
  id: "network",
  title: "Network",
  open({ api, role }) {
    if (role === "gateway") return ofFleet(api);
    let known = [];
    const state = el("p", { class: "muted" });
    const sets = makeRuleSets(api, () => rules.refresh());
    const rules = polling(() => api.get("egress"), (answer) => {
      state.textContent = answer.enabled
        ? `Sandboxes of this policy have a network. ${answer.connected ? "The proxy runs." : "The proxy does not run at the moment: nothing is reachable."}`
        : "The policy in force gives no sandbox a network.";
      sets.update(answer.sets ?? []);
      known = answer.sets ?? [];
    }, REFRESH_SECONDS);
    const changed = () => {
      rules.refresh();
      log.refresh();
    };
    const refused = refusedTable(api, () => known, changed);
    const verdict = choice("verdict", [["all", "everything"], ["refused", "what was refused"], ["allowed", "what was allowed"], ["failed", "what was allowed and did not work"]], () => log.refresh());
    const records = recordTable();
    const log = polling(async () => ({
      refusals: (await api.get("egress/log", { verdict: "refused", limit: REFUSALS })).records,
      latest: (await api.get("egress/log", { verdict: verdict.value, limit: 100 })).records,
    }), ({ refusals, latest }) => {
      refused.update(grouped(refusals).map((each) => ({ ...each, allowed: allows(known, each) })));
      records.update(numbered(latest));
    }, REFRESH_SECONDS);
    const nodes = [
      head("Network"), state, rules.node,
      log.node, card("Refused connections", refused.node),
      card("Rules", sets.node),
      card("Log", el("div", { class: "tools" }, field("Show", verdict)), records.node),
    ];
    return { nodes, refresh: changed, close: () => [rules, log].forEach(({ close }) => close()) };
  },
};

/** Say what a gateway knows: whether there is a network. Rules and log are where the proxies are. */
function ofFleet(api) {
  const state = el("p", { class: "muted" });
  const asking = polling(() => api.get("egress"), ({ enabled }) => {
    state.textContent = enabled ? "Sandboxes of this policy have a network." : "The policy in force gives no sandbox a network.";
  }, REFRESH_SECONDS);
  const told = [
    el("p", { class: "known" }, "This is a gateway. The rules of a fleet's network are files, the same on every worker: change them there, and they hold at once."),
    el("p", {}, "What was allowed and refused is written where it is decided. On a worker ", el("code", {}, "gaoler egress log --refused"), " shows it, and ",
      el("code", {}, "gaoler egress suggest"), " the rules that would allow it."),
  ];
  return { nodes: [head("Network"), state, asking.node, card("Rules and log", ...told)], refresh: asking.refresh, close: asking.close };
}

/** Put refusals of the same thing together; the latest speaks for all. */
export function grouped(records) {
  const groups = new Map();
  for (const record of records) {
    const key = JSON.stringify([record.kind, record.host, record.port, record.code]);
    const group = groups.get(key);
    // Those that came too often were only counted.
    const times = 1 + (record.suppressed ?? 0);
    if (group) group.times += times;
    else groups.set(key, { ...record, key, times });
  }
  return [...groups.values()];
}

/** Say whether rules name this very host by now: so that nobody allows it a second time. */
function allows(sets, { suggestion }) {
  if (!suggestion) return false;
  const { hosts, ports } = suggestion.rule;
  return sets.some(({ rules = [] }) => rules.some((rule) => hosts.every((host) => rule.hosts?.includes(host)) && ports.every((port) => (rule.ports ?? [443]).includes(port))));
}

function numbered(records) {
  const times = new Map();
  return records.map((record) => {
    const key = JSON.stringify([record.time, record.session, record.kind, record.host, record.port, record.verdict]);
    times.set(key, (times.get(key) ?? 0) + 1);
    return { ...record, key: `${key}${times.get(key)}` };
  });
}

function target({ host, port, path }) {
  // A line may break before the port, not in it.
  return el("span", { class: "mono" }, foreign(host), port ? [el("wbr"), el("span", { class: "whole" }, `:${port}`)] : null, path ? foreign(path) : null);
}

function refusedTable(api, known, changed) {
  return new Table("Refused connections", [
    { title: "Where to", kind: "wide", show: target },
    { title: "Why not", kind: "wide", show: ({ code, reason }) => el("span", {}, foreign(reason || code)) },
    { title: "Who, the latest time", show: who },
    { title: "Times", kind: "number", show: ({ times }) => count(times) },
    { title: "Latest", show: ({ time }) => moment(time) },
    { title: "What can be done", kind: "actions", make: (current) => allow(api, current, known, changed) },
  ], { key: ({ key, suggestion, allowed }) => `${key}${Boolean(suggestion)}${allowed}`, empty: "Nothing was refused.", bound: 100 });
}

function allow(api, current, known, changed) {
  if (current().allowed) return pill("allowed since", "good");
  if (!current().suggestion) return el("span", { class: "muted small" }, "no rule can allow it");
  return button("Allow this …", async () => {
    const { suggestion: { set, rule }, host } = current();
    const reason = el("input", { name: "reason", value: rule.reason ?? "", required: true, minlength: 8, maxlength: 500 });
    const names = known().map(({ name }) => name);
    const sets = choice("set", (names.includes(set) ? names : [set]).map((name) => [name, plain(name)]));
    sets.value = set;
    const act = () => api.post("egress/allow", { set: sets.value, rule: { ...rule, reason: reason.value.trim() } });
    const { reason: _, ...said } = rule;
    const shown = Object.entries(said).map(([name, value]) => [name, el("code", {}, foreign([value].flat().join(", ")))]);
    const body = [
      el("p", {}, "Every sandbox whose policy names the set may do this from now on:"),
      facts(shown), field("Set of rules", sets), field("Why this is allowed", reason, "It is kept with the rule, for whoever asks later."),
    ];
    const done = await openDialog({ title: "Allow this", body, word: "Allow", act });
    if (!done) return;
    announce(`${plain(host)} is allowed now`);
    changed();
  }, { class: "small", "aria-label": `Allow ${plain(current().host)}` });
}

function recordTable() {
  return new Table("Connections, the latest first", [
    { title: "Time", show: ({ time }) => moment(time) },
    { title: "Verdict", show: ({ verdict }) => pill(verdict, { allowed: "good", refused: "warn" }[verdict] ?? "") },
    { title: "Where to", kind: "wide", show: target },
    { title: "Kind", show: ({ kind }) => foreign(kind) },
    { title: "Who", show: who },
    { title: "Why", kind: "wide", show: ({ reason, code }) => foreign(reason || code || "") },
  ], { key: ({ key }) => key, empty: "Nothing is in the log.", bound: 100 });
}
