/**
 * The overview of the topic `$node` (PROTOCOL §5) for operators. Each node publishes each figure once a second, tagged with its name, so
 * the mean of a window is the figure per second, whatever the window. Pure.
 *
 * @typedef {import("./columns.js").Span} Span
 * @typedef {import("./groups.js").Group} Group
 *
 * @typedef {object} Figure
 * @property {string} series
 * @property {string} title
 * @property {string} hint
 * @property {"sum"|"worst"} together how all nodes' values are combined
 * @property {(value: number | null) => string} format
 */
import { number } from "./format.js";
import { MEASURES } from "./measures.js";

/** A node without figures for this long is silent: it is gone, or can't reach the topic's owner. */
const SILENT_MS = 5_000;
const KIB = 1_024;

/** @param {number | null} value */
const milliseconds = (value) => (value === null ? "–" : `${number(value)} ms`);

/** @param {number | null} value */
function bytes(value) {
  if (value === null || value < KIB) return value === null ? "–" : `${number(value)} B`;
  return value < KIB * KIB ? `${number(value / KIB)} KiB` : `${number(value / KIB / KIB)} MiB`;
}

/** @type {Figure[]} */
export const FIGURES = [
  { series: "connections", title: "Connections", hint: "Open, with a session", together: "sum", format: number },
  { series: "sends", title: "Sends a second", hint: "Messages that clients sent, repeats included", together: "sum", format: number },
  { series: "deliveries", title: "Deliveries a second", hint: "Messages told to all nodes with members", together: "sum", format: number },
  { series: "frames_sent", title: "Frames a second", hint: "Written to sockets, of any kind", together: "sum", format: number },
  { series: "send_duration_ms", title: "Send latency", hint: "From a send's frame to its answer: the mean of each second", together: "worst", format: milliseconds },
  { series: "send_p99_ms", title: "Send latency, p99", hint: "99 of 100 in each second took at most this, to the next bound of its histogram", together: "worst", format: milliseconds },
  { series: "delivery_duration_ms", title: "Delivery latency", hint: "From a send's frame to the members' nodes: the mean of each second", together: "worst", format: milliseconds },
  { series: "delivery_p99_ms", title: "Delivery latency, p99", hint: "99 of 100 in each second took at most this, to the next bound of its histogram", together: "worst", format: milliseconds },
  { series: "session_queue_bytes", title: "Queued for slow readers", hint: "Frames that sockets do not take yet", together: "sum", format: bytes },
  { series: "frames_dropped", title: "Frames dropped a second", hint: "Ephemeral frames that slow readers did not get", together: "sum", format: number },
  { series: "owed_announcements", title: "Owed announcements", hint: "Messages that are durable, and not yet told to every member's home", together: "sum", format: number },
  { series: "conversations_active", title: "Active conversations", hint: "Whose term a node holds", together: "sum", format: number },
  { series: "overloaded", title: "Refused a second", hint: "Answered with overloaded", together: "sum", format: number },
  { series: "topic_events", title: "Topic events a second", hint: "Published for dashboards, the gateway's own included", together: "sum", format: number },
];

/**
 * A node's value of a figure, in the newest complete window or, failing that, the newest before it.
 * @param {Group} group
 * @param {Span} span
 * @returns {number | null} null: none within the last few seconds, or window
 */
export function latest({ points }, { edge_ms, window_ms }) {
  const point = points.findLast(([start_ms]) => start_ms < edge_ms) ?? points[points.length - 1];
  return point && point[0] >= edge_ms - Math.max(SILENT_MS, 2 * window_ms) ? MEASURES.mean.of(point) : null;
}

/**
 * @param {Figure} figure
 * @param {(number | null)[]} values each node's
 * @returns {number | null}
 */
export function whole({ together }, values) {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return null;
  return together === "sum" ? known.reduce((sum, value) => sum + value, 0) : Math.max(...known);
}

/**
 * @param {Group} group of a figure that every node always publishes
 * @param {Span} span
 * @returns {number | null} since when a node is silent; null: it is not
 */
export function silentSince({ points }, { to_ms, window_ms }) {
  const [start_ms] = points[points.length - 1];
  const end_ms = start_ms + window_ms;
  return end_ms < to_ms - window_ms - SILENT_MS ? end_ms : null;
}
