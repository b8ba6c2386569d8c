/* Tables that change without losing their place: a row that stays keeps its elements, and with them the focus. */

import { el, foreign } from "./dom.js";

const BOUND = 200;

/**
 * Make a table. Columns: `title`, and `show(row)` (a string, or a node), shown again when it changed,
 * `draw(row)`, shown again always, or `make(current)`, made once for a row, where `current()` gives the row as it is now.
 * `kind`: number, wide, actions, spare. `narrow`: it has room for its columns everywhere, spare ones aside.
 */
export class Table {
  #body = el("tbody", { role: "rowgroup" });
  #rows = new Map();
  #columns;
  #key;
  #empty;
  #note = el("p", { class: "muted small", hidden: true });
  #wide;
  #before = false;
  #none;

  constructor(name, columns, { key, empty = "None.", bound = BOUND, narrow = false }) {
    this.#columns = columns;
    this.#key = key;
    this.bound = bound;
    this.#none = empty;
    // What is not known yet is not nothing.
    this.#empty = el("p", { class: "empty", tabindex: "-1" }, "Asking the daemon …");
    const titles = columns.map(({ title, kind = "" }) =>
      el("th", { scope: "col", role: "columnheader", class: kind }, kind === "actions" ? hidden(title) : title));
    this.#wide = el("div", { class: "scroll", role: "group", "aria-label": name, tabindex: "0", hidden: true },
      el("table", { role: "table", "aria-label": name, class: narrow ? "" : "rows" },
        el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...titles)), this.#body));
    this.node = el("div", {}, this.#wide, this.#empty, this.#note);
  }

  /** Go to the first thing that can be used in a row, counted from 0. */
  focusRow(at) {
    (this.#body.children[at]?.querySelector("button, a") ?? this.#wide).focus();
  }

  /** Show these rows, in this order, as many as the bound allows. */
  update(rows) {
    const shown = rows.slice(0, this.bound);
    const wanted = new Set(shown.map(this.#key));
    for (const [key, row] of this.#rows) {
      if (!wanted.has(key)) this.#drop(key, row);
    }
    let place = this.#body.firstElementChild;
    for (const value of shown) {
      const row = this.#row(value);
      if (row.node === place) place = place.nextElementSibling;
      else this.#body.insertBefore(row.node, place);
    }
    this.#before = true;
    this.#empty.textContent = this.#none;
    this.#empty.hidden = Boolean(shown.length);
    if (!shown.length && this.#wide === document.activeElement) this.#empty.focus({ preventScroll: true });
    this.#wide.hidden = !shown.length;
    this.#note.hidden = rows.length <= shown.length;
    this.#note.textContent = `${shown.length} of ${rows.length} are shown: narrow the filter to see others.`;
  }

  #row(value) {
    const key = this.#key(value);
    let row = this.#rows.get(key);
    if (row?.value === value) return row;
    if (!row) {
      row = { value, node: el("tr", { role: "row", class: this.#before ? "fresh" : "" }), cells: [] };
      this.#rows.set(key, row);
      for (const { title, kind = "", make } of this.#columns) {
        const cell = el("td", { role: "cell", class: kind, "data-title": title });
        if (make) cell.append(...[make(() => row.value)].flat());
        row.cells.push({ cell, shown: null });
        row.node.append(cell);
      }
    }
    row.value = value;
    this.#columns.forEach(({ show, draw }, at) => {
      if (show) paint(row.cells[at], show(value));
      else if (draw) row.cells[at].cell.replaceChildren(draw(value));
    });
    return row;
  }

  #drop(key, row) {
    this.#rows.delete(key);
    const lost = row.node.contains(document.activeElement);
    const next = row.node.nextElementSibling ?? row.node.previousElementSibling;
    row.node.remove();
    // Whoever was in this row goes on beside it, not at the top of the page.
    if (lost) (next?.querySelector("button, a") ?? this.#wide).focus({ preventScroll: true });
  }
}

function paint(slot, content) {
  const text = typeof content === "string" ? content : content?.textContent ?? "";
  const mark = `${content?.className ?? ""}|${content?.firstElementChild?.className ?? ""}|${text}`;
  if (slot.shown === mark) return;
  slot.shown = mark;
  slot.cell.classList.toggle("nothing", text === "" && !(content instanceof Element && content.childElementCount));
  slot.cell.replaceChildren(typeof content === "string" ? foreign(content) : content ?? "");
}

function hidden(text) {
  return el("span", { class: "visually-hidden" }, text);
}
