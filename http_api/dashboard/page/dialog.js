/* Dialogs: the browser's own, so the focus stays inside, Escape closes, and the focus goes back where it was. */

import { button, el, foreign } from "./dom.js";

/** Show a refusal: what, which field, what helps. It is read out. */
export function problem(error) {
  return el("div", { class: "problem", role: "alert" },
    el("p", {}, foreign(error.message), error.field ? foreign(` (${error.field})`) : null),
    error.hint ? el("p", {}, foreign(error.hint)) : null);
}

/**
 * Open a dialog around a form. `act(form)` does the work: what it throws is shown, and the dialog stays open. Resolves with
 * what `act` returned, or `null` when it was left. `refused(error, form)` may say more about an error beside a field.
 */
export function openDialog({ title, body, word = "Close", act = null, danger = false, wide = false, leave = "Cancel", refused = null }) {
  const heading = el("h2", { id: "dialog-title", tabindex: "-1" }, title);
  const said = el("div");
  const submit = el("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, word);
  const form = el("form", { method: "dialog", novalidate: true }, heading, ...[body].flat(), said,
    el("div", { class: "end" }, act ? button(leave, () => shut()) : null, submit));
  const dialog = el("dialog", { class: wide ? "wide" : "", "aria-labelledby": heading.id }, form);
  const before = document.activeElement;
  let outcome = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!act) return shut();
    if (submit.disabled) return undefined;
    submit.disabled = true;
    try {
      outcome = (await act(form)) ?? true;
      shut();
    } catch (error) {
      clear(form);
      said.replaceChildren(problem(error));
      (refused ?? mark)(error, form);
    } finally {
      submit.disabled = false;
    }
    return undefined;
  });
  document.body.append(dialog);
  dialog.showModal();
  // Where something is to be said, there; else what it is about is read first, and no button is pressed by accident.
  (form.querySelector("input, textarea, select") ?? heading).focus();
  let resolve;
  const left = new Promise((then) => { resolve = then; });
  let open = true;
  // At once, not with the event that follows: nothing that it showed stays in the page, a secret least of all.
  function shut() {
    if (!open) return undefined;
    open = false;
    dialog.close();
    dialog.remove();
    // What opened it may be gone by now: then the view's heading.
    (before?.isConnected ? before : document.querySelector("main:not([hidden]) h1"))?.focus();
    return resolve(outcome);
  }
  // The browser's own ways: Escape, and going back on a telephone.
  dialog.addEventListener("close", shut);
  return left;
}

function clear(form) {
  for (const each of form.querySelectorAll("[aria-invalid]")) each.removeAttribute("aria-invalid");
}

function mark(error, form) {
  // As `name`, or `rates.exec` for the input that is called rates-exec.
  const input = error.field && (form.elements.namedItem(error.field.replaceAll(".", "-")) ?? form.elements.namedItem(error.field.split(/[.[]/)[0]));
  if (!(input instanceof HTMLElement)) return;
  input.setAttribute("aria-invalid", "true");
  input.closest("details")?.setAttribute("open", "");
  input.focus();
}

/** Ask before something that cannot be taken back. */
export function ask(title, text, word, act) {
  return openDialog({ title, body: el("p", {}, ...[text].flat()), word, act, danger: true, leave: "Leave it" });
}

/** Close whatever is open: nobody is signed in any more. */
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.close();
    dialog.remove();
  }
}
