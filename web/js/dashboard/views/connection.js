/** The state of the page's connection, always in words too. */
import { h, setAttribute, setText } from "../../dom.js";
import { newInstanceId } from "../../session.js";

/** @param {import("../feed.js").Feed} feed */
export function connectionView(feed) {
  const lamp = h("span", { class: "lamp" });
  const text = h("span", { role: "status" });
  // Announcing a countdown each second would drown everything else.
  const countdown = h("span", { class: "meta", "aria-hidden": "true" });
  const button = h("button", { type: "button", class: "small", on: { click: () => act(feed) } });
  const node = h("div", { class: "line-state" }, lamp, text, countdown, button);
  return {
    node,
    show: () => {
      const { phase, why, code, retry_at } = feed.state;
      setAttribute(node, "data-phase", phase);
      lamp.classList.toggle("online", phase === "online");
      setText(text, phase === "online" ? "Live" : phase === "waiting" ? `${why} Reconnecting.` : why);
      setText(countdown, retry_at === undefined ? "" : `${Math.max(0, Math.ceil((retry_at - Date.now()) / 1_000))} s`);
      setText(button, phase === "waiting" ? "Try now" : code === 4409 ? "Use here" : "Reload");
      button.hidden = phase === "online" || phase === "connecting";
    },
  };
}

/** @param {import("../feed.js").Feed} feed */
function act({ state: { phase, code }, connection }) {
  if (phase === "waiting") connection.retryNow();
  else if (code === 4409) connection.restartAs(newInstanceId());
  else location.reload();
}
