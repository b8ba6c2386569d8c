/* Signing in and out, the frame, and which view is shown. */

import { Api } from "./api.js";
import { closeDialogs, problem } from "./dialog.js";
import { announce, el, foreign, plain } from "./dom.js";
import { Feed } from "./feed.js";
import { span } from "./format.js";
import { connectTheme } from "./theme.js";
import { audit } from "./view-audit.js";
import { executions } from "./view-executions.js";
import { health } from "./view-health.js";
import { keys } from "./view-keys.js";
import { network } from "./view-network.js";
import { overview } from "./view-overview.js";
import { sessions } from "./view-sessions.js";
import { usage } from "./view-usage.js";
import { workers } from "./view-workers.js";

const VIEWS = [overview, executions, sessions, network, keys, usage, workers, audit, health];
const HEALTH_MS = 15_000;
const byId = (id) => document.getElementById(id);

let signedIn = null;

/** What one signing in brings, and ends with it. */
class Operator {
  /** `role`: of the process that is looked at: `all` or `gateway`. */
  constructor(key, role) {
    this.role = role;
    // An answer to who has signed out by then says nothing about who has signed in since.
    this.api = new Api(key, (refusal) => signedIn === this && signOut(`Signed out: ${refusal.message}`));
    this.feed = new Feed(this.api);
    this.view = null;
    this.cut = false;
    this.timers = [];
  }

  begin() {
    this.feed.subscribe(() => drawFrame(this));
    this.feed.follow();
    const look = () => document.visibilityState === "visible" && drawHealth(this);
    this.timers = [setInterval(look, HEALTH_MS), setInterval(() => drawWait(this.feed.state), 1000)];
    look();
    this.open();
  }

  /** Show the view that the address names. */
  open() {
    const chosen = VIEWS.find(({ id }) => location.hash === `#${id}`) ?? VIEWS[0];
    this.view?.close?.();
    for (const link of byId("parts").querySelectorAll("a")) {
      if (link.hash === `#${chosen.id}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${chosen.title} · Gaoler`;
    this.view = chosen.open(this);
    byId("content").replaceChildren(...this.view.nodes);
    scrollTo(0, 0);
    byId("content").querySelector("h1").focus({ preventScroll: true });
  }

  end() {
    this.timers.forEach(clearInterval);
    this.feed.close();
    this.view?.close?.();
  }
}

async function signIn(event) {
  event.preventDefault();
  const input = byId("key");
  const key = input.value.trim();
  const submit = byId("sign-in").querySelector("button");
  say(null);
  if (!/^[\x21-\x7e]+$/.test(key)) return say({ message: "A key is a word of plain characters without spaces." });
  let seen;
  submit.disabled = true;
  try {
    seen = await new Api(key).get("overview");
  } catch (refusal) {
    return say(refusal);
  } finally {
    submit.disabled = false;
  }
  input.value = "";
  signedIn = new Operator(key, seen.role);
  byId("door").hidden = true;
  byId("app").hidden = false;
  signedIn.begin();
  return announce("Signed in");
}

function say(refusal) {
  const node = byId("sign-in-word");
  node.hidden = !refusal;
  node.replaceChildren(...(refusal ? problem(refusal).childNodes : []));
  if (refusal) byId("key").focus();
}

function signOut(word) {
  signedIn?.end();
  signedIn = null;
  closeDialogs();
  byId("app").hidden = true;
  byId("door").hidden = false;
  byId("content").replaceChildren();
  byId("who").replaceChildren();
  document.title = "Gaoler";
  say(word ? { message: word } : null);
  byId("key").focus();
}

function drawFrame(operator) {
  const { feed } = operator;
  const { overview: now, state } = feed;
  if (now) {
    const age = Number.isFinite(now.started_at) ? `, up ${span(feed.now() - now.started_at)}` : "";
    const role = now.role === "all" ? "" : `${plain(now.role)} `;
    byId("who").replaceChildren(foreign(now.name || now.role), ` · ${role}${plain(now.version)} · policy `, foreign(now.policy), el("span", { class: "spare" }, age));
  }
  const [word, kind] = { live: ["Live", "good"], connecting: ["Connecting", ""], waiting: ["Disconnected", "bad"] }[state.kind];
  const live = byId("live-pill");
  if (live.textContent !== word) {
    live.textContent = word;
    live.className = `pill ${kind}`;
    // What a view asked for meanwhile was not answered.
    if (state.kind === "live" && operator.cut) operator.view?.refresh?.();
    operator.cut = state.kind !== "live" && (operator.cut || state.kind === "waiting");
    if (state.kind !== "connecting") announce(state.kind === "live" ? "Connected" : "Disconnected from the daemon");
    drawHealth(operator);
  }
  if (state.kind === "live") byId("cut-off").hidden = true;
  drawWait(state);
  byId("content").classList.toggle("stale", state.kind === "waiting");
  for (const { id, note } of VIEWS) {
    if (note) byId(`note-${id}`).textContent = note(feed);
  }
}

function drawWait({ kind, until, message }) {
  if (kind !== "waiting") return;
  const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
  byId("cut-off").hidden = false;
  byId("cut-off-word").textContent = `Disconnected: ${plain(message)}. What is shown is what was. Trying again in ${left} s.`;
}

async function drawHealth(operator) {
  const node = byId("health-pill");
  let [word, kind] = ["Health unknown", ""];
  try {
    const { status, checks = [] } = await operator.api.get("health");
    const wrong = checks.filter(({ ok }) => !ok).length;
    word = wrong ? `${wrong} ${wrong === 1 ? "finding" : "findings"}` : "Healthy";
    kind = { ok: "good", degraded: "warn" }[status] ?? "bad";
  } catch {
    // Said where the stream is followed.
  }
  if (signedIn === operator) {
    node.textContent = word;
    node.className = `pill ${kind}`;
  }
}

function drawParts() {
  byId("parts").replaceChildren(...VIEWS.map(({ id, title }) =>
    el("li", {}, el("a", { href: `#${id}` }, title, el("span", { id: `note-${id}`, class: "count" })))));
}

connectTheme(byId("theme"));
drawParts();
byId("sign-in").addEventListener("submit", signIn);
byId("sign-out").addEventListener("click", () => signOut(null));
byId("try-now").addEventListener("click", () => signedIn?.feed.hurry());
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("content").focus();
});
byId("parts").addEventListener("click", ({ target }) => {
  // To where one is already: the address does not change, and still it is opened anew.
  if (target.closest("a")?.hash === location.hash) signedIn?.open();
});
addEventListener("hashchange", () => signedIn?.open());
byId("door").hidden = false;
byId("key").focus();
