/* Elements and text. Nothing in this page makes markup out of a string; Trusted Types hold us to it. */

const SVG = "http://www.w3.org/2000/svg";

/* Control characters, what turns the direction of writing, what cannot be seen: a name must not look like another one. */
const DECEIVING = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}]/u;
const EACH_DECEIVING = /([\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}])/u;
const LONGEST = 500;

let parts = 0;

/** Make an element. `attributes` are ours, never data; `on`: listeners; children that are strings become text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const [name, listener] of Object.entries(on)) node.addEventListener(name, listener);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** Show text of whoever: kept apart from what is around it, nothing invisible in it, not endless. */
export function foreign(text) {
  const whole = String(text ?? "");
  const cut = whole.length > LONGEST ? `${whole.slice(0, LONGEST)}…` : whole;
  const node = el("bdi");
  if (!DECEIVING.test(cut)) {
    node.append(cut);
    return node;
  }
  for (const part of cut.split(EACH_DECEIVING)) {
    if (part !== "") node.append(DECEIVING.test(part) ? el("span", { class: "marked" }, codePoint(part)) : part);
  }
  return node;
}

/** Give the same as plain text, for attributes and announcements. */
export function plain(text, longest = 120) {
  const whole = String(text ?? "");
  const cut = whole.length > longest ? `${whole.slice(0, longest)}…` : whole;
  return cut.split(EACH_DECEIVING).map((part) => (DECEIVING.test(part) ? codePoint(part) : part)).join("");
}

function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/** Make a button that does something. */
export function button(word, act, attributes = {}) {
  const { class: kind = "", ...rest } = attributes;
  return el("button", { type: "button", class: `button ${kind}`, on: { click: act }, ...rest }, word);
}

/** Make a word with a dot in front: `good`, `warn`, `bad`, `accent` or nothing. */
export function pill(word, kind = "") {
  return el("span", { class: `pill ${kind}` }, foreign(word));
}

/** Make a labelled field around an input. */
export function field(label, input, note = null) {
  input.id ||= `field-${Math.random().toString(36).slice(2)}`;
  const tick = input.type === "checkbox";
  const words = el("label", { for: input.id }, label);
  const hint = note && el("span", { class: "muted small", id: `${input.id}-note` }, note);
  if (hint) input.setAttribute("aria-describedby", hint.id);
  return el("div", { class: tick ? "field tick" : "field" }, ...(tick ? [input, words, hint] : [words, input, hint]));
}

/** Make a list to choose from: pairs of value and word. */
export function choice(name, pairs, listener = null) {
  const options = pairs.map(([value, word]) => el("option", { value }, word));
  return el("select", { name, on: listener ? { change: listener } : {} }, ...options);
}

/** Make a part of a page with its heading and what can be done in it. */
export function card(title, ...children) {
  const heading = el("h2", {}, title);
  heading.id = `part-${(parts += 1)}`;
  return el("section", { class: "card", "aria-labelledby": heading.id }, heading, ...children);
}

/** Make the head of a view. The heading takes the focus when the view opens. */
export function head(title, ...tools) {
  return el("div", { class: "head" }, el("h1", { tabindex: "-1" }, title), el("div", { class: "tools" }, ...tools));
}

/** Make pairs of a name and a value; pairs without a value are left out. */
export function facts(pairs) {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return el("dl", { class: "facts" }, ...known.flatMap(([name, value]) => [el("dt", {}, foreign(name)), el("dd", {}, typeof value === "string" ? foreign(value) : value)]));
}

let announcing = 0;

/** Say something to a screen reader: the latest word of a moment counts, so that it is never flooded. */
export function announce(text) {
  clearTimeout(announcing);
  announcing = setTimeout(() => {
    document.getElementById("announcer").textContent = text;
  }, 250);
}
