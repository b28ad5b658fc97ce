/** What happened to a message: a lane for each node and device, and below them the same in words. */
import { h } from "../../dom.js";
import { fullTime } from "../../text.js";
import { lanesOf } from "../lanes.js";
import { offset, stepOf } from "../words.js";

/** @typedef {import("../lanes.js").Step} Step */
/** @typedef {import("../lanes.js").Scale} Scale */

/**
 * @param {Step[]} steps
 * @param {Scale} scale
 * @returns {HTMLElement | null} null: nothing was recorded
 */
export function wayOf(steps, scale) {
  if (steps.length === 0) return null;
  return h("div", { class: "way" }, lanes(steps, scale), h("ol", { class: "steps" }, steps.map(line)));
}

/** The drawing, hidden from screen readers: the words below say the same. @param {Step[]} steps @param {Scale} scale */
function lanes(steps, scale) {
  const drawn = lanesOf(steps).map(({ node_id, device_id, steps }) =>
    h(
      "div",
      { class: "lane" },
      h("span", { class: "lane-name" }, placeOf(node_id, device_id)),
      h("span", { class: "track" }, scale.ticks.map(({ ms }) => at(h("i", { class: "tick" }), scale.part(ms))), steps.map((step) => at(dot(step), scale.part(step.after_ms)))),
    ),
  );
  const axis = h("span", { class: "track" }, scale.ticks.map(({ ms, text }) => at(h("span", {}, text), scale.part(ms))));
  return h("div", { class: "lanes", "aria-hidden": "true" }, drawn, h("div", { class: "lane axis" }, h("span", { class: "lane-name" }), axis));
}

/** @param {Step} step */
function dot({ event, after_ms }) {
  const { tone, text } = stepOf(event);
  return h("i", { class: `dot ${tone}`, title: `${offset(after_ms)}: ${text}` });
}

/** @param {Step} step */
function line({ event, after_ms }) {
  const { tone, text } = stepOf(event);
  return h(
    "li",
    {},
    h("i", { class: `dot ${tone}`, "aria-hidden": "true" }),
    h("time", { class: "meta", datetime: event.at, title: `${fullTime(event.at)} (${event.at})` }, offset(after_ms)),
    h("span", { class: "place meta" }, placeOf(event.node_id, event.device_id)),
    h("span", { class: "said" }, text),
  );
}

/** @param {string} node_id @param {string | null | undefined} device_id */
function placeOf(node_id, device_id) {
  return device_id ? `${node_id} · ${device_id}` : node_id;
}

/**
 * Sets the position by script, because the page's content security policy forbids inline styles in markup.
 * @template {HTMLElement} Element
 * @param {Element} element
 * @param {number} part
 * @returns {Element}
 */
function at(element, part) {
  element.style.setProperty("--part", part.toFixed(4));
  return element;
}
