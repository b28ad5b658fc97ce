/**
 * The trace's outcomes, steps and reasons in words; `switchboard trace` uses the same. Pure, except for the browser's
 * language and time zone.
 *
 * @typedef {import("./types.js").TraceEvent} TraceEvent
 * @typedef {"going"|"there"|"waits"|"told"|"failed"|"over"} Tone how it is drawn
 */
import { plural } from "../text.js";

/** @type {Record<string, {tone: Tone, text: string}>} */
const OUTCOMES = {
  not_a_member: { tone: "over", text: "was no member" },
  stored: { tone: "waits", text: "waits for the next sync" },
  not_notified: { tone: "failed", text: "was not notified" },
  notification_waits: { tone: "waits", text: "a notification waits" },
  notified: { tone: "told", text: "was notified" },
  given: { tone: "going", text: "a session has it, and has not said so" },
  delivered: { tone: "there", text: "has it" },
  read: { tone: "there", text: "has read it" },
};

/** @type {Record<string, {tone: Tone, text: (event: TraceEvent) => string}>} */
const STEPS = {
  announced: { tone: "going", text: ({ home_id, users = 0 }) => `announced to ${home_id}, the home of ${plural(users, "member")}` },
  given: { tone: "going", text: ({ session_id }) => `given to session ${session_id}` },
  given_to_more: { tone: "going", text: ({ sessions = 0 }) => `given to ${plural(sessions, "more session")}` },
  delivered: { tone: "there", text: ({ up_to_seq }) => `delivered, up to ${up_to_seq}` },
  read: { tone: "there", text: ({ up_to_seq }) => `read, up to ${up_to_seq}` },
  held: { tone: "waits", text: ({ until }) => `push waits for a receipt until ${moment(until)}` },
  arrived_in_time: { tone: "over", text: () => "arrived in time: no notification" },
  not_notified: { tone: "failed", text: ({ why }) => `no notification: ${reason(why)}` },
  queued: { tone: "waits", text: queued },
  notified: { tone: "told", text: ({ provider }) => `${provider} has the notification` },
  device_gone: { tone: "failed", text: ({ provider }) => `${provider} says that the device is gone` },
  failed: { tone: "failed", text: ({ provider, reason, again_at }) => `${provider} failed: ${reason}; ${again_at ? `again at ${moment(again_at)}` : "given up"}` },
  withdrawn: { tone: "over", text: () => "the notification was withdrawn" },
};

/** The reasons that need more than their own name. @type {Record<string, string>} */
const REASONS = {
  not_a_member_then: "not a member then",
  not_connected: "no device was connected",
  no_device: "no device was connected, and none can be notified",
  no_longer_kept: "what happened is no longer kept",
};

const MOMENT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MS = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const SECONDS = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
/** Up to this time, times are shown in milliseconds; beyond it in seconds, then in minutes. */
const MS_UP_TO = 10_000;
const SECONDS_UP_TO_MS = 600_000;
const HOURS_FROM_MS = 3 * 3_600_000;

/** @param {string} outcome @returns {{tone: Tone, text: string}} unknown outcomes, of a newer server, literally */
export function outcomeOf(outcome) {
  return OUTCOMES[outcome] ?? { tone: "going", text: spaced(outcome) };
}

/** @param {TraceEvent} event @returns {{tone: Tone, text: string}} */
export function stepOf(event) {
  const known = STEPS[event.step];
  return known ? { tone: known.tone, text: known.text(event) } : { tone: "going", text: spaced(event.step) };
}

/** @param {string | undefined} why */
export function reason(why = "") {
  return REASONS[why] ?? spaced(why);
}

/** @param {string} outcome_or_step @returns {boolean} whether there are words for it */
export function isKnown(outcome_or_step) {
  return outcome_or_step in OUTCOMES || outcome_or_step in STEPS;
}

/** @param {number} ms since the message was stored, by a node's clock, which may be behind @returns {string} */
export function offset(ms) {
  return `${ms < 0 ? "−" : "+"}${span(Math.abs(ms))}`;
}

/** @param {number} ms */
export function span(ms) {
  if (ms < MS_UP_TO) return `${MS.format(ms)} ms`;
  if (ms < SECONDS_UP_TO_MS) return `${SECONDS.format(ms / 1_000)} s`;
  return ms < HOURS_FROM_MS ? `${MS.format(ms / 60_000)} min` : `${SECONDS.format(ms / 3_600_000)} h`;
}

/** @param {string | undefined} timestamp */
function moment(timestamp) {
  return timestamp === undefined ? "" : MOMENT.format(new Date(timestamp));
}

/** @param {TraceEvent} event */
function queued({ provider, count = 1, not_before, why }) {
  const reasoned = why === undefined ? "" : `: ${reason(why)}`;
  return `queued for ${provider}, for ${plural(count, "message")}, not before ${moment(not_before)}${reasoned}`;
}

/** @param {string} word */
function spaced(word) {
  return word.replaceAll("_", " ");
}
