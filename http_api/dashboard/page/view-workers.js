/* The machines that do the work; a daemon alone is one. */

import { part } from "./api.js";
import { ask } from "./dialog.js";
import { announce, button, card, el, facts, foreign, head, plain } from "./dom.js";
import { polling } from "./polling.js";

const TITLE = { name: "Name", address: "Address", state: "State", status: "Status", version: "Version", tier: "Tier", tiers: "Tiers", policy: "Policy", places: "Places", running: "Running", waiting: "Waiting", languages: "Languages" };

export const workers = {
  id: "workers",
  title: "Workers",
  open({ api }) {
    const list = el("div", { class: "columns" });
    let before = "";
    const asking = polling(() => api.get("workers"), ({ workers: found }) => {
      const now = JSON.stringify(found);
      if (now === before) return;
      before = now;
      list.replaceChildren(...(found.length ? found.map((each) => worker(api, each, asking.refresh)) : [el("p", { class: "empty" }, "There is no worker: nothing can be executed.")]));
    }, 5);
    return { nodes: [head("Workers", button("Refresh", asking.refresh)), asking.node, list], close: asking.close };
  },
};

function worker(api, each, changed) {
  const { name } = each;
  const rows = Object.entries(each).filter(([key]) => key !== "name").map(([key, value]) => [TITLE[key] ?? key.replaceAll("_", " "), foreign(words(value))]);
  const drain = button("Drain", async () => {
    const done = await ask("Drain this worker?", ["It takes no new work, ends what it has, and stops: ", foreign(name), "."], "Drain it", () => api.post(`workers/${part(name)}/drain`));
    if (!done) return;
    announce("The worker drains");
    changed();
  }, { class: "small danger", "aria-label": `Drain ${plain(name)}` });
  return card(plain(name), facts(rows), el("p", {}, drain));
}

function words(value) {
  if (Array.isArray(value)) return value.map(words).join(", ");
  if (value && typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${words(each)}`).join(", ");
  return String(value);
}
