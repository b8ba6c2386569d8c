/* Sessions that have files: whose they are, what is in them, and their end. */

import { part } from "./api.js";
import { ask, openDialog, problem } from "./dialog.js";
import { announce, button, card, el, field, foreign, head, pill, plain } from "./dom.js";
import { bytes, count, moment, until } from "./format.js";
import { polling } from "./polling.js";
import { short } from "./records.js";
import { Table } from "./table.js";

const PAGE = 100;
const REFRESH_SECONDS = 15;

export const sessions = {
  id: "sessions",
  title: "Sessions",
  open({ api }) {
    const tenant = el("input", { type: "search", name: "tenant", on: { change: () => first() } });
    const user = el("input", { type: "search", name: "user", on: { change: () => first() } });
    let pages = 1;
    let shown = 0;
    const fetchPages = async () => {
      const found = [];
      let after = "";
      for (let page = 0; page < pages; page += 1) {
        const answer = await api.get("sessions", { tenant: tenant.value.trim(), user: user.value.trim(), limit: PAGE, after });
        found.push(...answer.sessions);
        after = answer.next;
        if (!after) break;
      }
      return { found, next: after };
    };
    const more = button("Show more", async () => {
      const before = shown;
      pages += 1;
      await asking.refresh();
      if (shown <= before) return;
      announce(`${count(shown)} sessions are shown`);
      // The button may be gone: on from where one was.
      if (more.hidden) table.focusRow(before);
    });
    const foot = el("p", { hidden: true }, more);
    const table = sessionTable(api, () => asking.refresh());
    const asking = polling(fetchPages, ({ found, next }) => {
      table.update(found);
      shown = found.length;
      more.hidden = foot.hidden = !next;
    }, REFRESH_SECONDS);
    const first = () => {
      pages = 1;
      asking.refresh();
    };
    const tools = [field("Tenant", tenant), field("User", user), button("Refresh", asking.refresh)];
    return { nodes: [head("Sessions", ...tools), asking.node, card("Sessions with files", table.node, foot)], refresh: asking.refresh, close: asking.close };
  },
};

function sessionTable(api, changed) {
  return new Table("Sessions with files", [
    { title: "Session", show: ({ id }) => short(id) },
    { title: "Owner", show: ({ owner }) => el("span", { class: "cut" }, el("span", { class: "muted small" }, `${plain(owner?.kind)} `), foreign(owner?.id)) },
    { title: "Tenant", show: ({ tenant }) => foreign(tenant) },
    { title: "Made", show: ({ created_at: at }) => moment(at) },
    { title: "Ends in", show: ({ expires_at: at }) => until(at) },
    { title: "Files", kind: "number", show: ({ files }) => count(files) },
    { title: "Size", kind: "number", show: ({ size_bytes: size }) => bytes(size) },
    { title: "Interpreter", show: ({ live, processes }) => (live === null ? el("span", { class: "muted small" }, "its worker knows") : live ? pill(processes ? `lives, ${count(processes)} processes` : "lives", "good") : "") },
    { title: "What can be done", kind: "actions", make: (current) => [files(api, current), " ", drop(api, current, changed)] },
  ], { key: ({ id }) => id, empty: "No session has files, or none that fits.", bound: 1000 });
}

function files(api, current) {
  const act = async () => {
    let body;
    try {
      const { file_list: list = [] } = await api.get(`sessions/${part(current().id)}`);
      const table = new Table("Files", [
        { title: "Name", kind: "wide", show: ({ name }) => el("code", {}, foreign(name)) },
        { title: "Size", kind: "number", show: ({ size_bytes: size }) => bytes(size) },
        { title: "Made", show: ({ created_at: at }) => moment(at) },
      ], { key: ({ id }) => id, empty: "It has no files.", bound: 1000 });
      table.update(list);
      body = table.node;
    } catch (error) {
      body = problem(error);
    }
    openDialog({ title: "Files of the session", body: [el("p", {}, el("code", {}, foreign(current().id))), body], wide: true });
  };
  return button("Files", act, { class: "small", "aria-label": `Files of session ${plain(current().id)}` });
}

function drop(api, current, changed) {
  const act = async () => {
    const { id, files: number } = current();
    const done = await ask("Delete this session?", ["Its interpreter ends, and ", `${count(number)} files`, " are gone for good: ", el("code", {}, foreign(id))],
      "Delete it", () => api.delete(`sessions/${part(id)}`));
    if (!done) return;
    announce("The session was deleted");
    changed();
  };
  return button("Delete", act, { class: "small danger", "aria-label": `Delete session ${plain(current().id)}` });
}
