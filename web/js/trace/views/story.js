/** The section about the message itself, and a row for each recipient. */
import { h } from "../../dom.js";
import { fullTime } from "../../text.js";
import { avatar } from "../../views/avatar.js";
import { stepsOf } from "../lanes.js";
import { outcomeOf, reason } from "../words.js";
import { wayOf } from "./way.js";

/**
 * @param {import("../types.js").Trace} trace
 * @param {import("../lanes.js").Scale} scale
 */
export function headOf({ conversation_id, seq, message_id, from, stored_at, events }, scale) {
  return h(
    "section",
    { class: "tile story", "aria-labelledby": "message" },
    h(
      "header",
      {},
      h("h2", { id: "message" }, `Message ${seq} from ${from}`),
      h("p", { class: "hint" }, "Stored at ", h("time", { datetime: stored_at, title: fullTime(stored_at) }, stored_at)),
      h("p", { class: "meta ids" }, `${conversation_id} · ${message_id}`),
    ),
    wayOf(stepsOf(events, stored_at), scale) ?? h("p", { class: "hint" }, "The records of its way to the recipients' homes are no longer kept."),
  );
}

/**
 * @param {import("../types.js").Recipient} recipient
 * @param {string} stored_at
 * @param {import("../lanes.js").Scale} scale
 */
export function rowOf({ user_id, outcome, why, events }, stored_at, scale) {
  const { tone, text } = outcomeOf(outcome);
  return h(
    "li",
    { class: "tile story", "data-user": user_id },
    h(
      "header",
      {},
      h("h2", { tabindex: -1 }, avatar(user_id), user_id),
      h("p", { class: "outcome" }, h("i", { class: `dot ${tone}`, "aria-hidden": "true" }), text),
      why && h("p", { class: "hint" }, reason(why)),
    ),
    wayOf(stepsOf(events, stored_at), scale),
  );
}
