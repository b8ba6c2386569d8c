/* Executions and owners in words. */

import { el, foreign, pill } from "./dom.js";

/** Words of outcomes. What a program does to itself is no fault of anybody's here: no colour. */
export const OUTCOMES = {
  exited: { word: "Exited", kind: "" },
  signalled: { word: "Signal", kind: "warn" },
  out_of_memory: { word: "Out of memory", kind: "warn" },
  timed_out: { word: "Timed out", kind: "warn" },
  output_limit: { word: "Output limit", kind: "warn" },
  cancelled: { word: "Cancelled", kind: "" },
  waits_for_tools: { word: "Waits for tools", kind: "accent" },
  stopped: { word: "Stopped", kind: "accent" },
  refused: { word: "Refused", kind: "warn" },
  failed: { word: "Failed", kind: "bad" },
};

export function outcomePill({ outcome, detail }) {
  const { word, kind } = OUTCOMES[outcome] ?? { word: outcome, kind: "" };
  const good = outcome === "exited" && detail === "0";
  const more = outcome === "exited" || outcome === "signalled" ? ` ${detail}` : "";
  return el("span", {}, pill(`${word}${more}`, good ? "good" : kind),
    detail && !more && ["refused", "failed", "stopped"].includes(outcome) ? el("span", { class: "muted small" }, " ", foreign(detail)) : null);
}

/** Say on whose behalf: the user if one was named, else the credential; then the tenant. */
export function who({ tenant, user, credential }) {
  return el("span", {}, el("span", { class: "cut" }, foreign(user || credential)), " ", el("span", { class: "muted small" }, foreign(tenant)));
}

export function short(id) {
  return id ? el("span", { class: "mono small" }, foreign(id.length > 12 ? `${id.slice(0, 10)}…` : id)) : "";
}
