/* Server-sent events out of a body: EventSource cannot send the key. */

const LARGEST = 8 << 20;
/* Longer than this at once, and keys and clicks would be felt to wait. */
const SLICE_MS = 20;

/** Give `[event, data]` one after the other; `heard` is called for every piece that arrives, heartbeats too. */
export async function* readEvents(body, heard = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let since = performance.now();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      rest += value;
      let end;
      let from = 0;
      while ((end = rest.indexOf("\n\n", from)) >= 0) {
        const event = parse(rest.slice(from, end));
        from = end + 2;
        if (event) yield event;
        if (performance.now() - since > SLICE_MS) {
          await breathe();
          since = performance.now();
        }
      }
      rest = rest.slice(from);
      if (rest.length > LARGEST) throw new Error("an event is too large");
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Let the browser do what else there is to do. */
function breathe() {
  return globalThis.scheduler?.yield?.() ?? new Promise((resolve) => setTimeout(resolve));
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? [name, JSON.parse(data.join("\n"))] : null;
}
