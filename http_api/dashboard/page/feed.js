/* What the daemon tells without being asked: the overview and the executions. Connects again by itself.

   Listeners are called at most once for each picture that the browser draws, however many events there were. */

import { readEvents } from "./stream.js";

const REMEMBERED = 1000;
const SAMPLES = 150;
const SILENCE_MS = 40_000;
const LONGEST_WAIT_MS = 15_000;

export class Feed {
  overview = null;
  running = new Map();
  /** The latest that have ended, the latest last. */
  recent = new Map();
  /** Load as it was, a sample for each overview. */
  samples = [];
  missed = 0;
  /** What ended before has been asked for: until then nothing is known of it. */
  looked = false;
  /** `connecting`, `live` or `waiting`; with `until` (ms) and `message` when it waits. */
  state = { kind: "connecting" };

  #api;
  #listeners = new Set();
  #drawing = false;
  #ended = false;
  #abort = null;
  #wake = null;
  #waits = 0;
  #ahead = 0;

  constructor(api) {
    this.#api = api;
  }

  /** Call `listener` whenever something is new; returns what ends that. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Give the daemon's time, in seconds. */
  now() {
    return Date.now() / 1000 + this.#ahead;
  }

  /** Follow until `close`. */
  async follow() {
    const hurry = () => document.visibilityState === "visible" && this.hurry();
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", hurry);
    while (!this.#ended) {
      let message = "the daemon ended the stream";
      try {
        await this.#connect();
      } catch (error) {
        message = error.message;
      }
      if (!this.#ended) await this.#pause(message);
    }
    removeEventListener("online", hurry);
    document.removeEventListener("visibilitychange", hurry);
  }

  /** Try again now, if it waits. */
  hurry() {
    this.#wake?.();
  }

  close() {
    this.#ended = true;
    this.#abort?.abort();
    this.#wake?.();
    this.#listeners.clear();
  }

  async #connect() {
    this.#abort = new AbortController();
    let silence = 0;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => this.#abort.abort(), SILENCE_MS);
    };
    heard();
    try {
      const body = await this.#api.events(this.#abort.signal);
      for await (const [name, data] of readEvents(body, heard)) this.#take(name, data);
    } catch (error) {
      throw error.name === "AbortError" ? new Error("the daemon has fallen silent") : error;
    } finally {
      clearTimeout(silence);
      this.#abort.abort();
    }
  }

  async #pause(message) {
    this.#waits += 1;
    // Not all pages at the same moment, when a daemon comes back.
    const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#waits) * (0.7 + 0.3 * Math.random());
    this.#become({ kind: "waiting", until: Date.now() + wait, message });
    await new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, wait);
    });
    this.#wake = null;
    if (!this.#ended) this.#become({ kind: "connecting" });
  }

  #become(state) {
    this.state = state;
    this.#tell();
  }

  #take(name, data) {
    if (name === "snapshot") this.#begin(data);
    else if (name === "overview") this.#sample(data);
    else if (name === "execution") this.#note(data);
    this.#tell();
  }

  #begin({ running = [], overview = null, ...rest }) {
    this.#waits = 0;
    this.state = { kind: "live" };
    this.running = new Map(running.map((record) => [record.id, record]));
    this.#sample(overview ?? rest);
    this.#catchUp();
  }

  /** Ask for what ended while nobody listened, or too slowly: after each snapshot. */
  async #catchUp() {
    try {
      const { recent } = await this.#api.get("executions", { state: "recent", limit: 500 });
      const both = new Map([...recent, ...this.recent.values()].map((record) => [record.id, record]));
      this.recent = new Map([...both].sort(([, a], [, b]) => a.ended_at - b.ended_at));
      for (const id of both.keys()) this.running.delete(id);
      this.#trim();
    } catch {
      // The stream goes on; its end is told where it is followed.
    }
    this.looked = true;
    this.#tell();
  }

  #sample(overview) {
    this.overview = overview;
    if (Number.isFinite(overview.now)) this.#ahead = overview.now - Date.now() / 1000;
    const { running = 0, waiting = 0 } = overview.load ?? {};
    this.samples.push({ running, waiting });
    if (this.samples.length > SAMPLES) this.samples.shift();
  }

  #note({ kind, execution, missed = 0 }) {
    this.missed += missed;
    if (kind !== "ended") {
      this.running.set(execution.id, execution);
      return;
    }
    this.running.delete(execution.id);
    this.recent.set(execution.id, execution);
    this.#trim();
  }

  #trim() {
    for (const id of this.recent.keys()) {
      if (this.recent.size <= REMEMBERED) return;
      this.recent.delete(id);
    }
  }

  #tell() {
    if (this.#drawing) return;
    this.#drawing = true;
    const tell = () => {
      if (!this.#drawing) return;
      this.#drawing = false;
      for (const listener of this.#listeners) listener();
    };
    // A page that nobody sees is not drawn, and still says what is new a second later.
    if (document.visibilityState === "visible") requestAnimationFrame(tell);
    else setTimeout(tell, 1000);
  }
}
