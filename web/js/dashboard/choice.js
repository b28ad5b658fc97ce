/**
 * What the page shows, as encoded in its address (`/dashboard#topic=orders&window=1s&range=300`), so that it can be bookmarked and shared. Pure.
 *
 * @typedef {"1s"|"1m"} WindowName
 * @typedef {object} Choice
 * @property {"topic"|"nodes"} view
 * @property {string} topic
 * @property {WindowName} window
 * @property {number} range_s
 * @property {string | null} series null: the first one
 * @property {string | null} split null: by the first tag, if there is one
 * @property {import("./measures.js").Measure} measure
 */
import { isMeasure } from "./measures.js";

export const NODE_TOPIC = "$node";
export const FIRST_TOPIC = "orders";
export const WINDOW_MS = { "1s": 1_000, "1m": 60_000 };
export const RANGES_S = [60, 300, 900, 3_600];
/** Up to this range, windows of one second are the default. */
const SECONDS_UP_TO_S = 300;
/** PROTOCOL §1: the characters of an id; the gateway's own begin with $. */
const TOPIC = /^\$?[A-Za-z0-9_\-.:@]{1,128}$/;

/** @param {string} text */
export function isTopic(text) {
  return TOPIC.test(text) && text.length <= 128;
}

/**
 * @param {string} hash with or without its #
 * @param {string} topic the default if the address names none
 * @returns {Choice} invalid parts are left out
 */
export function parseChoice(hash, topic = FIRST_TOPIC) {
  const params = new URLSearchParams(hash.replace(/^#/, ""));
  const range_s = RANGES_S.find((known) => String(known) === params.get("range")) ?? RANGES_S[0];
  const [named, window, measure] = [params.get("topic") ?? "", params.get("window"), params.get("measure")];
  return {
    view: params.get("view") === "nodes" ? "nodes" : "topic",
    topic: isTopic(named) ? named : topic,
    window: window === "1s" || window === "1m" ? window : windowFor(range_s),
    range_s,
    series: params.get("series"),
    split: params.get("split"),
    measure: isMeasure(measure) ? measure : "count",
  };
}

/** @param {Choice} choice @returns {string} with its # */
export function formatChoice({ view, topic, window, range_s, series, split, measure }) {
  const params = new URLSearchParams(view === "nodes" ? { view } : { topic });
  params.set("window", window);
  params.set("range", String(range_s));
  if (view === "topic") {
    if (series !== null) params.set("series", series);
    if (split !== null) params.set("split", split);
    if (measure !== "count") params.set("measure", measure);
  }
  return `#${params}`;
}

/**
 * Another range, with its default window, unless another one was chosen.
 * @param {Choice} choice
 * @param {number} range_s
 * @returns {Choice}
 */
export function withRange(choice, range_s) {
  const isUsual = choice.window === windowFor(choice.range_s);
  return { ...choice, range_s, window: isUsual ? windowFor(range_s) : choice.window };
}

/** @param {number} range_s @returns {WindowName} */
export function windowFor(range_s) {
  return range_s <= SECONDS_UP_TO_S ? "1s" : "1m";
}
