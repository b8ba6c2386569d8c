/* The machines that do the work; a daemon alone is one. */

import { part } from "./api.js";
import { ask } from "./dialog.js";
import { announce, button, card, el, facts, foreign, head, plain } from "./dom.js";
import { bytes, moment } from "./format.js";
import { polling } from "./polling.js";

const TITLE = { name: "Name", address: "Address", state: "State", status: "Status", version: "Version", tier: "Tier", tiers: "Tiers", policy: "Policy", places: "Places", running: "Running", waiting: "Waiting", languages: "Languages", live_sessions: "Live sessions", started_at: "Started", pool: "Pool" };

export const workers = {
  id: "workers",
  title: "Workers",
  open({ api, role }) {
    const list = el("div", { class: "columns" });
    let before = "";
    const asking = polling(() => api.get("workers"), ({ workers: found }) => {
      const now = JSON.stringify(found);
      if (now === before) return;
      before = now;
      list.replaceChildren(...(found.length ? found.map((each) => worker(api, each, role !== "all", asking.refresh)) : [el("p", { class: "empty" }, "There is no worker: nothing can be executed.")]));
    }, 5);
    return { nodes: [head("Workers", button("Refresh", asking.refresh)), asking.node, list], refresh: asking.refresh, close: asking.close };
  },
};

function worker(api, each, drains, changed) {
  const { name } = each;
  const rows = Object.entries(each).filter(([key, value]) => key !== "name" && value !== "").map(([key, value]) => [TITLE[key] ?? key.replaceAll("_", " "), foreign(words(value, key))]);
  const drain = button("Drain", async () => {
    const done = await ask("Drain this worker?", ["It takes no new work, ends what it has, and stops: ", foreign(name), "."], "Drain it", () => api.post(`workers/${part(name)}/drain`));
    if (!done) return;
    announce("The worker drains");
    changed();
  }, { class: "small danger", "aria-label": `Drain ${plain(name)}` });
  return card(plain(name), facts(rows), drains ? el("p", {}, drain) : null);
}

function words(value, key = "") {
  if (key.endsWith("_at") && Number.isFinite(value)) return moment(value);
  if (key.endsWith("_bytes") && Number.isFinite(value)) return bytes(value);
  if (Array.isArray(value)) return value.map((each) => words(each)).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${words(each)}`).join(", ");
  return String(value ?? "");
}
