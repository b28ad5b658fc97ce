/** A person or a group as a jack: a ring with initials, and a lamp for presence. */
import { h } from "../dom.js";
import { toneOf } from "../text.js";

/** @type {Record<import("../types.js").Status, string>} */
export const STATUS_NAMES = { online: "Online", away: "Away", busy: "Busy", invisible: "Invisible", offline: "Offline" };

/**
 * @param {string} name
 * @param {{status?: import("../types.js").Status, group?: boolean}} [options]
 */
export function avatar(name, { status, group = false } = {}) {
  const initials = [...name.replace(/[^\p{L}\p{N}]/gu, "")].slice(0, group ? 2 : 1).join("") || "#";
  return h(
    "span",
    { class: `avatar ${toneOf(name)}${group ? " group" : ""}`, "aria-hidden": "true" },
    h("span", { class: "initials" }, initials),
    status && h("span", { class: `lamp ${status}` }),
  );
}
