/** The placeholder if there is nothing to draw: what to do about it. */
import { devToken } from "../../access.js";
import { h, setText } from "../../dom.js";
import { past } from "../format.js";

const COPIED_MS = 2_000;

/** @param {string} topic @param {string} token in shell syntax @returns {string} a command that publishes an event */
export function curlOf(topic, token) {
  const event = { series: "amount_eur", value: 19.9, tags: { country: "DE", status: "paid" } };
  return [
    `TOKEN=${token}`,
    `curl -X POST '${location.origin}/v1/topics/${topic}/events' \\`,
    `  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\`,
    `  -d '${JSON.stringify({ events: [event] })}'`,
  ].join("\n");
}

export function emptyView() {
  const title = h("h2", {});
  const command = h("pre", { tabindex: "0", "aria-label": "A command that publishes an event" });
  const copied = h("span", { class: "meta", role: "status" });
  const copy = h("button", { type: "button", class: "primary", on: { click: () => void toClipboard() } }, "Copy");
  const hint = h("p", { class: "hint" }, "A made-up shop with a few orders a second: ", h("code", {}, "script/server --demo"), ".");
  const node = h("section", { class: "tile nothing", "aria-label": "Nothing to show", hidden: true }, title, h("p", {}, "Publish an event, and it is here within a second:"), command, h("div", { class: "field-row" }, copy, copied), hint);
  let shown = "";
  return {
    node,
    /**
     * @param {{topic: string, range_s: number}} choice
     * @param {boolean} isKnown whether it is known that there is nothing; otherwise the text for this topic stays
     */
    show({ topic, range_s }, isKnown) {
      node.hidden = !isKnown && shown !== topic;
      if (!isKnown) return;
      setText(title, `Nothing was published to ${topic} in the last ${past(range_s)}.`);
      if (shown === topic) return;
      shown = topic;
      void example(topic);
    },
    hide() {
      node.hidden = true;
      shown = "";
    },
  };

  /** Shows a command to publish an event; in development mode with a token for just that. @param {string} topic */
  async function example(topic) {
    const without = "$(switchboard token --user shop --scope topics:publish)";
    const token = await devToken("shop", ["topics:publish"]).catch(() => null);
    if (shown === topic) setText(command, curlOf(topic, token ?? without));
  }

  /** If the browser denies the clipboard, the command is selected, to be copied by hand. */
  async function toClipboard() {
    try {
      await navigator.clipboard.writeText(command.textContent ?? "");
      setText(copied, "Copied.");
    } catch {
      getSelection()?.selectAllChildren(command);
      setText(copied, "Selected: copy it with your keyboard.");
    }
    setTimeout(() => setText(copied, ""), COPIED_MS);
  }
}
