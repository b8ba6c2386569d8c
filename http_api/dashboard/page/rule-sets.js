/* Sets of rules: shown, and edited as the text that the API takes. What is wrong is shown where it stands. */

import { part, Problem } from "./api.js";
import { ask, openDialog } from "./dialog.js";
import { announce, button, el, field, foreign, pill, plain } from "./dom.js";
import { Table } from "./table.js";

export function makeRuleSets(api, changed) {
  const node = el("div", {});
  const shown = new Map();
  const update = (sets) => {
    for (const [name, { part: old }] of shown) {
      if (!sets.some((set) => set.name === name)) {
        old.remove();
        shown.delete(name);
      }
    }
    for (const set of sets) {
      if (!shown.has(set.name)) shown.set(set.name, makeSet(api, set.name, changed));
      const each = shown.get(set.name);
      each.update(set);
      node.append(each.part.isConnected ? "" : each.part);
    }
    if (!sets.length && !node.childElementCount) node.replaceChildren(el("p", { class: "empty" }, "The policy names no rules."));
  };
  return { node, update };
}

function makeSet(api, name, changed) {
  let set = null;
  const origin = el("span");
  const table = new Table(`Rules of ${plain(name)}`, [
    { title: "Hosts", kind: "wide", show: ({ hosts = [] }) => el("span", { class: "mono" }, foreign(hosts.slice(0, 12).join(", ")), hosts.length > 12 ? ` and ${hosts.length - 12} more` : "") },
    { title: "By", show: ({ schemes = ["https"], ports = [] }) => `${schemes.join(", ")} ${ports.join(", ")}` },
    { title: "Only", show: ({ methods = [], paths = [] }) => foreign([...methods, ...paths].join(" ")) },
    { title: "Also", show: ({ intercept, credential, addresses = [] }) => foreign([intercept && "intercepts", credential && `credential ${credential}`, ...addresses].filter(Boolean).join(", ")) },
    { title: "Name", show: ({ name: rule }) => el("span", { class: "muted small" }, foreign(rule)) },
  ], { key: ({ name: rule }) => rule, empty: "It allows nothing." });
  const back = button("Back to the file", () => goBack(api, name, changed), { class: "small", "aria-label": `Back to the file of ${plain(name)}` });
  const tools = el("span", {}, button("Edit", () => edit(api, set, changed), { class: "small", "aria-label": `Edit rules ${plain(name)}` }), " ", back);
  const body = el("section", { class: "check", "aria-label": `Rules ${plain(name)}` }, el("h3", {}, foreign(name), origin, tools), table.node);
  const update = (now) => {
    set = now;
    origin.replaceChildren(now.origin === "admin" ? pill("edited here", "accent") : el("span", { class: "muted small" }, foreign(now.origin)));
    back.hidden = now.origin !== "admin";
    table.update(now.rules ?? []);
  };
  return { part: body, update };
}

async function goBack(api, name, changed) {
  const done = await ask("Go back to the file?", ["What was edited here is gone, and the rules of the file hold: ", foreign(name), "."], "Go back",
    () => api.delete(`egress/${part(name)}`));
  if (!done) return;
  announce("The rules of the file hold");
  changed();
}

async function edit(api, set, changed) {
  const before = JSON.stringify(set.written ?? [], null, 2);
  const text = el("textarea", { name: "rule", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  text.value = before;
  const why = el("span", { class: "why", id: "rule-why", hidden: true });
  const body = [
    el("p", { class: "muted small" }, "A list of rules as in a file of ", el("code", {}, "policies/egress"), ", as JSON: each has a ", el("code", {}, "reason"), " and either ",
      el("code", {}, "hosts"), " or a ", el("code", {}, "preset"), ". They hold as soon as they are saved; what they no longer allow is cut."),
    field("Rules", text), why,
  ];
  const refused = (error) => {
    const at = place(error, text.value);
    why.hidden = false;
    why.textContent = at.word;
    text.setAttribute("aria-invalid", "true");
    text.setAttribute("aria-describedby", why.id);
    text.focus();
    if (at.range) text.setSelectionRange(...at.range);
  };
  const act = () => api.put("egress", { name: set.name, rule: parse(text.value) });
  const done = await openDialog({ title: `Rules ${plain(set.name)}`, body, word: "Save", act, wide: true, refused });
  if (!done) return;
  announce("The rules hold");
  changed();
}

function parse(text) {
  let rules;
  try {
    rules = JSON.parse(text);
  } catch (error) {
    const at = /position (\d+)/.exec(error.message);
    const problem = new Problem(0, `This is not JSON: ${error.message}`, { field: "rule" });
    problem.at = at ? Number(at[1]) : null;
    throw problem;
  }
  if (!Array.isArray(rules)) throw new Problem(0, "The rules are a list: [ … ]", { field: "rule" });
  return rules;
}

/** Say which rule an error is about, and where in the text it stands. */
export function place(error, text) {
  if (Number.isInteger(error.at)) return { word: "The text ends or breaks where the cursor is.", range: [error.at, error.at] };
  const named = /rule\[(\d+)\](?:\.([a-z_]+))?/.exec(`${error.field ?? ""} ${error.message}`);
  if (!named) return { word: "The rules that held go on holding." };
  const number = Number(named[1]);
  return { word: `Rule ${number + 1}${named[2] ? `, its ${named[2]},` : ""} is marked in the text. The rules that held go on holding.`, range: elements(text)[number] };
}

/** Find the elements of the outermost list of a text in JSON: their beginnings and ends. */
export function elements(text) {
  const found = [];
  let depth = 0;
  let begin = -1;
  for (const { 0: piece, index } of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},]|[^\s[\]{},"]+/g)) {
    const outer = depth === 1 && (piece === "," || piece === "]");
    if (outer && begin >= 0) {
      found.push([begin, text.slice(0, index).trimEnd().length]);
      begin = -1;
    } else if (depth === 1 && begin < 0) begin = index;
    if (piece === "[" || piece === "{") depth += 1;
    else if (piece === "]" || piece === "}") depth -= 1;
  }
  return found;
}
