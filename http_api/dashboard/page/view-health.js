/* What is not as it should be, and what helps. */

import { button, card, el, foreign, head, pill, plain } from "./dom.js";
import { polling } from "./polling.js";

const STATUS = { ok: ["Everything is as it should be.", "good"], degraded: ["It works, and something should be looked at.", "warn"], unavailable: ["Executions cannot be run.", "bad"] };

export const health = {
  id: "health",
  title: "Health",
  open({ api }) {
    const status = el("p", {});
    const list = el("div", {});
    let before = "";
    const asking = polling(() => api.get("health"), (answer) => {
      // Drawn again only when something is new, so that nobody loses their place in it.
      const now = JSON.stringify(answer);
      if (now === before) return;
      before = now;
      const [word, kind] = STATUS[answer.status] ?? ["This page does not know what that means.", "bad"];
      status.replaceChildren(pill(answer.status, kind), " ", word);
      list.replaceChildren(...[...answer.checks].sort((a, b) => a.ok - b.ok).map(check));
    }, 10);
    return { nodes: [head("Health", button("Look again", asking.refresh)), asking.node, card("Findings", status, list)], refresh: asking.refresh, close: asking.close };
  },
};

function check({ name, ok, detail, fix }) {
  return el("section", { class: "check", "aria-label": plain(name) },
    el("h3", {}, pill(ok ? "fine" : "wrong", ok ? "good" : "bad"), foreign(name)),
    detail ? el("p", { class: "muted" }, foreign(detail)) : null,
    !ok && fix ? el("pre", {}, foreign(fix)) : null);
}
