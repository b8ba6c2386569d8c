/* Executions as they happen: who, in which language, how it ended, what it cost. Their content is never here. */

import { part } from "./api.js";
import { ask, openDialog } from "./dialog.js";
import { announce, button, card, choice, el, facts, field, foreign, head, plain } from "./dom.js";
import { age, bytes, count, moment, seconds } from "./format.js";
import { OUTCOMES, outcomePill, short, who } from "./records.js";
import { Table } from "./table.js";

/* The others say it beside their word. */
const DETAILED = new Set(["out_of_memory", "timed_out", "output_limit"]);
const SEARCHED = ["id", "tenant", "user", "credential", "language", "session", "door", "tier", "detail", "request_id"];

export const executions = {
  id: "executions",
  title: "Executions",
  note: ({ running }) => (running.size ? String(running.size) : ""),
  open({ api, feed, role }) {
    const wanted = el("input", { type: "search", name: "filter", placeholder: "user, tenant, session …", on: { input: () => draw(true) } });
    const outcome = choice("outcome", [["", "every outcome"], ...Object.entries(OUTCOMES).map(([name, { word }]) => [name, word])], () => draw(true));
    const hold = button("Pause", () => {
      const held = hold.getAttribute("aria-pressed") !== "true";
      hold.setAttribute("aria-pressed", held);
      hold.textContent = held ? "Go on" : "Pause";
      draw(true);
    }, { "aria-pressed": "false" });
    const running = runningTable(api);
    const ended = endedTable();
    const told = el("p", { class: "muted small" });
    let frozen = [];
    const draw = (asked = false) => {
      const held = hold.getAttribute("aria-pressed") === "true";
      const fits = filter(wanted.value, outcome.value);
      const now = feed.now();
      if (feed.overview) running.update([...feed.running.values()].filter(filter(wanted.value, "")).map((record) => ({ ...record, elapsed: now - record.began_at })));
      if (!held) frozen = [...feed.recent.values()].reverse();
      if (feed.looked && (!held || asked)) ended.update(frozen.filter(fits));
      told.hidden = !frozen.length;
      told.textContent = `${frozen.length === 1 ? "The latest is" : `The latest ${count(frozen.length)} are`} looked at${feed.missed ? `; ${count(feed.missed)} events came faster than this page reads, and are not all here` : ""}.`;
    };
    const close = feed.subscribe(() => draw());
    draw();
    const share = role === "gateway" ? el("p", { class: "muted" }, "These came through this gateway; other gateways show theirs.") : null;
    const tools = [field("Filter", wanted), field("Outcome", outcome), hold];
    const nodes = [head("Executions", ...tools), ...(share ? [share] : []), card("Running and waiting", running.node), card("Ended", ended.node, told)];
    return { nodes, close };
  },
};

function filter(text, outcome) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (record) => {
    if (outcome && record.outcome !== outcome) return false;
    if (!words.length) return true;
    const all = SEARCHED.map((name) => record[name] ?? "").join("\n").toLowerCase();
    return words.every((word) => all.includes(word));
  };
}

function runningTable(api) {
  return new Table("Running and waiting", [
    { title: "Began", show: ({ began_at: at }) => moment(at) },
    { title: "Who", show: who },
    { title: "Language", show: ({ language }) => foreign(language) },
    { title: "State", show: ({ state }) => (state === "running" ? "running" : "waits for a place") },
    { title: "Door", show: ({ door }) => door },
    { title: "Session", show: ({ session }) => short(session) },
    { title: "For", kind: "number", show: ({ elapsed }) => age(elapsed) },
    { title: "What can be done", kind: "actions", make: (current) => [details(current), " ", cancel(api, current)] },
  ], { key: ({ id }) => id, empty: "Nothing runs at the moment." });
}

function endedTable() {
  const narrow = matchMedia("(max-width: 44rem)");
  return new Table("Ended executions, the latest first", [
    { title: "Ended", show: ({ ended_at: at }) => moment(at) },
    { title: "Who", show: who },
    { title: "Language", show: ({ language }) => foreign(language) },
    { title: "Outcome", show: outcomePill },
    { title: "Took", kind: "number", show: (row) => seconds(row.seconds) },
    { title: "CPU", kind: "number", show: ({ cpu_seconds: value }) => seconds(value) },
    { title: "Memory", kind: "number", show: ({ memory_peak_bytes: value }) => bytes(value) },
    { title: "Output", kind: "number", show: ({ output_bytes: value }) => bytes(value) },
    { title: "Files", kind: "number", show: ({ files }) => count(files) },
    { title: "What can be done", kind: "actions", make: (current) => details(current) },
  ], { key: ({ id }) => id, empty: "None, or none that fits the filter.", bound: narrow.matches ? 25 : 100 });
}

function cancel(api, current) {
  const named = () => `${plain(current().language)} of ${plain(current().user || current().credential)}`;
  const act = async () => {
    const done = await ask("Cancel this execution?",
      ["It is killed with everything that it has started, and its caller is told that an operator did it: ", foreign(named()), "."],
      "Kill it", () => api.post(`executions/${part(current().id)}/cancel`));
    if (done) announce("The execution was cancelled");
  };
  return button("Cancel", act, { class: "small danger", "aria-label": `Cancel ${named()}` });
}

function details(current) {
  const act = () => {
    const row = current();
    const spent = Object.entries(row.spent ?? {}).map(([step, value]) => `${step} ${seconds(value)}`).join(", ");
    openDialog({ title: "Execution", body: facts([
      ["Execution", el("code", {}, foreign(row.id))], ["Session", row.session && el("code", {}, foreign(row.session))],
      ["User", row.user && foreign(row.user)], ["Credential", foreign(row.credential)], ["Tenant", foreign(row.tenant)],
      ["Door", row.door], ["Kind", row.kind === "program" ? "program that calls tools" : "code"], ["Language", foreign(row.language)],
      ["Tier", row.tier], ["Outcome", row.outcome && outcomePill(row)], ["Detail", DETAILED.has(row.outcome) && row.detail],
      ["Began", moment(row.began_at)], ["Ended", row.ended_at && moment(row.ended_at)], ["Took", seconds(row.seconds)],
      ["Program's time", row.wall_seconds > 0 && `${seconds(row.wall_seconds)}, ${seconds(row.cpu_seconds)} of it on a processor`],
      ["Where it went", spent], ["Request", row.request_id && el("code", {}, foreign(row.request_id))],
      ["Trace", row.traceparent && el("code", {}, foreign(row.traceparent))],
    ]) });
  };
  return button("Details", act, { class: "small", "aria-label": `Details of ${plain(current().language)} of ${plain(current().user || current().credential)}` });
}
