/* What the daemon is asked. The key lives in a private field of one object and nowhere else: not in storage, which programs'
   files that are served from this origin could reach if ever one were run as a page. Reloading signs out. */

/** An answer that says no, or none at all: `field` and `hint` as the daemon gave them. */
export class Problem extends Error {
  constructor(status, message, { field = null, hint = null, code = "" } = {}) {
    super(message);
    Object.assign(this, { status, field, hint, code });
  }
}

export class Api {
  #key;
  #refused;

  /** `refused` is called when the key does not hold any more. */
  constructor(key, refused = () => {}) {
    this.#key = key;
    this.#refused = refused;
  }

  get(path, query = {}) {
    const asked = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return this.#ask("GET", asked.length ? `${path}?${new URLSearchParams(asked)}` : path);
  }

  post(path, body = undefined) {
    return this.#ask("POST", path, body);
  }

  put(path, body) {
    return this.#ask("PUT", path, body);
  }

  delete(path) {
    return this.#ask("DELETE", path);
  }

  /** Open the stream of events; aborting ends it. */
  async events(signal) {
    const answer = await this.#send("executions/events", { signal, headers: { Accept: "text/event-stream" } });
    return answer.body;
  }

  async #ask(method, path, body) {
    const options = { method, headers: { Accept: "application/json" } };
    if (body !== undefined) {
      options.body = JSON.stringify(body);
      options.headers["Content-Type"] = "application/json";
    }
    const answer = await this.#send(path, options);
    return answer.status === 204 ? null : answer.json();
  }

  async #send(path, options) {
    // Relative: a proxy in front may have put everything below a path of its own.
    const address = new URL(`v1/admin/${path}`, document.baseURI);
    const headers = { ...options.headers, Authorization: `Bearer ${this.#key}` };
    let answer;
    try {
      answer = await fetch(address, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "the daemon cannot be reached");
    }
    if (answer.ok) return answer;
    const problem = await read(answer);
    if (answer.status === 401 || answer.status === 403) this.#refused(problem);
    throw problem;
  }
}

async function read(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // A proxy's page, or nothing.
  }
  const message = said.message || said.error || `the daemon answered ${answer.status}`;
  return new Problem(answer.status, String(message), { field: said.field, hint: said.hint, code: said.error });
}

/** Name a part of a path. */
export function part(name) {
  return encodeURIComponent(name);
}
