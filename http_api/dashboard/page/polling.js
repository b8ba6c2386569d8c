/* Views that ask now and then. */

import { el } from "./dom.js";
import { problem } from "./dialog.js";

/**
 * Ask at once and every so many seconds, as long as the page is looked at. `node` shows what goes wrong; what was shown
 * before stays. `refresh` asks now; answers that were overtaken are dropped.
 */
export function polling(ask, show, seconds) {
  const node = el("div");
  let turn = 0;
  let closed = false;
  const refresh = async () => {
    turn += 1;
    const mine = turn;
    try {
      const answer = await ask();
      if (closed || mine !== turn) return;
      node.replaceChildren();
      show(answer);
    } catch (error) {
      if (closed || mine !== turn) return;
      // Not read out again and again.
      if (node.textContent !== problem(error).textContent) node.replaceChildren(problem(error));
    }
  };
  const timer = seconds ? setInterval(() => document.visibilityState === "visible" && refresh(), seconds * 1000) : 0;
  refresh();
  return { node, refresh, close: () => { closed = true; clearInterval(timer); } };
}
