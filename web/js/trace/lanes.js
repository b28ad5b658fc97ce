/**
 * Converts events to a time line: a lane for each node and device, and one scale for the whole page. Pure.
 *
 * @typedef {import("./types.js").TraceEvent} TraceEvent
 * @typedef {{event: TraceEvent, after_ms: number}} Step since the message was stored; negative if a node's clock is behind
 * @typedef {{node_id: string, device_id: string | null, steps: Step[]}} Lane
 * @typedef {{part: (ms: number) => number, ticks: {ms: number, text: string}[]}} Scale from 0 to 1
 */

const TICKS = [
  { ms: 0, text: "0" },
  { ms: 10, text: "10 ms" },
  { ms: 100, text: "100 ms" },
  { ms: 1_000, text: "1 s" },
  { ms: 10_000, text: "10 s" },
  { ms: 60_000, text: "1 min" },
  { ms: 600_000, text: "10 min" },
  { ms: 3_600_000, text: "1 h" },
  { ms: 36_000_000, text: "10 h" },
  { ms: 345_600_000, text: "4 days" },
];
/** The minimum end of a scale. */
const END_MIN = 2;

/**
 * @param {TraceEvent[]} events
 * @param {string} stored_at
 * @returns {Step[]} in the order of time, as they come
 */
export function stepsOf(events, stored_at) {
  const from_ms = Date.parse(stored_at);
  return events.map((event) => ({ event, after_ms: Date.parse(event.at) - from_ms }));
}

/** @param {Step[]} steps @returns {Lane[]} in the order in which they come in */
export function lanesOf(steps) {
  /** @type {Map<string, Lane>} */
  const lanes = new Map();
  for (const step of steps) {
    const { node_id, device_id = null } = step.event;
    const key = JSON.stringify([node_id, device_id]);
    const lane = lanes.get(key) ?? { node_id, device_id, steps: [] };
    lane.steps.push(step);
    lanes.set(key, lane);
  }
  return [...lanes.values()];
}

/**
 * Logarithmic: a message arrives after milliseconds, and a notification after minutes.
 * @param {number} longest_ms the longest time that it has to show
 * @returns {Scale} up to the next tick
 */
export function scaleOf(longest_ms) {
  const next = TICKS.findIndex(({ ms }) => ms >= longest_ms);
  const ticks = TICKS.slice(0, Math.max(next < 0 ? TICKS.length : next + 1, END_MIN + 1));
  const size = (/** @type {number} */ ms) => Math.log1p(Math.max(0, ms));
  const whole = size(Math.max(longest_ms, ticks[ticks.length - 1].ms));
  return { ticks, part: (ms) => size(ms) / whole };
}
