/* Keys: who may call. A new one is shown once. */

import { part } from "./api.js";
import { ask, openDialog } from "./dialog.js";
import { announce, button, card, choice, el, facts, field, foreign, head, pill, plain } from "./dom.js";
import { moment } from "./format.js";
import { polling } from "./polling.js";
import { Table } from "./table.js";

const KINDS = { exec: "executions", upload: "uploads", download: "downloads", listing: "listings" };
const REFRESH_SECONDS = 20;
const ORIGIN = { settings: "settings", file: "made here", fleet: "shared by the fleet" };

export const keys = {
  id: "keys",
  title: "Keys",
  open({ api }) {
    const table = new Table("Keys", [
      { title: "Name", show: ({ name }) => foreign(name) },
      { title: "Tenant", show: ({ tenant }) => foreign(tenant) },
      { title: "May", show: ({ admin }) => (admin ? pill("operate", "accent") : "call") },
      { title: "Tier", show: ({ tier }) => foreign(tier) },
      { title: "Rates", kind: "wide", show: ({ rates }) => rateWords(rates) },
      { title: "Made", show: ({ created_at: at }) => (at ? moment(at) : "") },
      { title: "Origin", show: ({ origin }) => ORIGIN[origin] ?? origin ?? "" },
      { title: "What can be done", kind: "actions", make: (current) => revoke(api, current, () => asking.refresh()) },
    ], { key: ({ name, origin }) => `${origin}/${name}`, empty: "There is no key beside the master key.", bound: 1000 });
    const asking = polling(() => api.get("keys"), ({ keys: found }) => table.update(found), REFRESH_SECONDS);
    const make = button("New key …", () => create(api, asking.refresh), { class: "primary" });
    return { nodes: [head("Keys", make), asking.node, card("Keys that hold", table.node)], refresh: asking.refresh, close: asking.close };
  },
};

function rateWords(rates) {
  const known = Object.entries(rates ?? {}).filter(([, rate]) => rate);
  return known.length ? known.map(([kind, rate]) => `${KINDS[kind] ?? kind} ${rate}`).join(", ") : el("span", { class: "muted small" }, "as for all");
}

function revoke(api, current, changed) {
  const { name, origin } = current();
  if (origin === "settings") return el("span", { class: "muted small" }, "by the settings");
  return button("Revoke", async () => {
    const done = await ask("Revoke this key?", ["Whoever calls with it is refused from now on: ", el("strong", {}, foreign(name)), "."], "Revoke it", () => api.delete(`keys/${part(name)}`));
    if (!done) return;
    announce("The key was revoked");
    changed();
  }, { class: "small danger", "aria-label": `Revoke ${plain(name)}` });
}

async function create(api, changed) {
  const input = (name, attributes = {}) => el("input", { name, autocomplete: "off", spellcheck: "false", ...attributes });
  const rates = Object.entries(KINDS).map(([kind, word]) => field(`Limit of ${word}`, input(`rates-${kind}`, { placeholder: "calls/seconds, as 20/30" })));
  const body = [
    field("Name", input("name", { required: true }), "Letters, digits, dots, - and _. The logs and the audit call it so."),
    field("Tenant", input("tenant"), "Empty: default. Tenants see nothing of each other."),
    field("Tier", choice("tier", [["nsjail", "sandboxes"], ["microvm", "virtual machines"]])),
    field("It may operate: all that this page can do", input("admin", { type: "checkbox" })),
    el("details", {}, el("summary", {}, "Limits of its own"), ...rates),
  ];
  const act = async (form) => {
    const value = (name) => form.elements.namedItem(name).value.trim();
    const limits = Object.keys(KINDS).map((kind) => [kind, value(`rates-${kind}`)]).filter(([, rate]) => rate);
    return api.post("keys", {
      name: value("name"), ...(value("tenant") && { tenant: value("tenant") }), ...(value("tier") && { tier: value("tier") }),
      ...(form.elements.namedItem("admin").checked && { admin: true }), ...(limits.length && { rates: Object.fromEntries(limits) }),
    });
  };
  const made = await openDialog({ title: "New key", body, word: "Make it", act });
  if (!made) return;
  changed();
  await show(made);
}

function show({ key, name }) {
  const copied = el("span", { class: "muted small", role: "status" });
  const secret = el("code", { class: "secret", tabindex: "0", "aria-label": "The key" }, key);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(key);
      copied.textContent = "Copied.";
    } catch {
      // Without HTTPS a page may not: it is marked, so that the keyboard can.
      getSelection().selectAllChildren(secret);
      copied.textContent = "It is marked: copy it from there.";
    }
  });
  return openDialog({
    title: "The new key", word: "I have it",
    body: [el("p", {}, "This is the only time that it is shown. The daemon keeps a digest."), facts([["Name", foreign(name)]]), secret, el("p", {}, copy, " ", copied)],
  });
}
