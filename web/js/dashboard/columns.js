/**
 * Converts windows to a chart's data: a column of times and a column of values for each line. Pure.
 *
 * @typedef {import("./windows.js").Point} Point
 * @typedef {import("./windows.js").Windows} Windows
 * @typedef {{window_ms: number, from_ms: number, edge_ms: number, to_ms: number}} Span
 *   whole windows from `from_ms`; those that begin at `edge_ms` or later are still growing; `to_ms` is where the last one ends
 */
import { MEASURES } from "./measures.js";

/** A window that ended this long ago counts as complete, even if nothing newer came. Updates come every 250 ms (PROTOCOL §5). */
const SETTLED_MS = 1_000;

/**
 * The part of time that is shown.
 * @param {Pick<Windows, "newest_ms" | "closed_until_ms">} windows
 * @param {{window_ms: number, range_ms: number}} choice
 * @param {number} now_ms by the server's clock
 * @returns {Span}
 */
export function spanOf({ newest_ms, closed_until_ms }, { window_ms, range_ms }, now_ms) {
  const running_ms = startOf(now_ms, window_ms);
  // An update that contains a window was made after all earlier windows had ended.
  const seen_ms = Math.min(newest_ms, running_ms);
  const edge_ms = Math.max(seen_ms, startOf(now_ms - SETTLED_MS, window_ms), Math.min(closed_until_ms, running_ms));
  const to_ms = running_ms + window_ms;
  return { window_ms, from_ms: to_ms - Math.max(range_ms, 2 * window_ms), edge_ms, to_ms };
}

/**
 * @param {Span} span
 * @returns {number[]} the windows' beginnings, in seconds
 */
export function timesOf({ window_ms, from_ms, to_ms }) {
  return Array.from({ length: Math.round((to_ms - from_ms) / window_ms) }, (_, at) => (from_ms + at * window_ms) / 1_000);
}

/**
 * A line's values. Without events, a count and a sum are 0 and the rest is unknown; before the first window of all (`since_ms`),
 * everything is unknown. A window that is still growing would look like a drop, so a count and a sum end before it.
 * @param {Point[]} points
 * @param {import("./measures.js").Measure} measure
 * @param {Span} span
 * @param {number} since_ms
 * @returns {(number | null)[]}
 */
export function lineOf(points, measure, { window_ms, from_ms, edge_ms, to_ms }, since_ms) {
  const { of, isTotal } = MEASURES[measure];
  const at = (/** @type {number} */ ms) => Math.round((ms - from_ms) / window_ms);
  /** @type {(number | null)[]} */
  const values = new Array(at(to_ms)).fill(null);
  const end = isTotal ? at(edge_ms) : values.length;
  if (isTotal) values.fill(0, Math.min(end, Math.max(0, at(Math.min(since_ms, to_ms)))), end);
  for (const point of points) {
    const index = at(point[0]);
    if (index < 0 || index >= end) continue;
    const value = of(point);
    values[index] = Number.isFinite(value) ? value : null;
  }
  return values;
}

/**
 * Bars of complete windows, and of those that are still growing.
 * @param {Point[]} points
 * @param {import("./measures.js").Measure} measure
 * @param {Span} span
 * @returns {[(number | null)[], (number | null)[]]}
 */
export function barsOf(points, measure, span) {
  const { of } = MEASURES[measure];
  const length = Math.round((span.to_ms - span.from_ms) / span.window_ms);
  /** @type {(number | null)[]} */
  const whole = new Array(length).fill(null);
  /** @type {(number | null)[]} */
  const growing = new Array(length).fill(null);
  for (const point of points) {
    const index = Math.round((point[0] - span.from_ms) / span.window_ms);
    if (index >= 0 && index < length) (point[0] < span.edge_ms ? whole : growing)[index] = of(point);
  }
  return [whole, growing];
}

/** @param {number} ms @param {number} window_ms */
function startOf(ms, window_ms) {
  return Math.floor(ms / window_ms) * window_ms;
}
