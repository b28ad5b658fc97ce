/** Numbers, times and spans as people read them. Pure, except for the browser's language and time zone. */

const integer = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
/** Always two digits, so that columns align. */
const decimal = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const small = new Intl.NumberFormat(undefined, { maximumSignificantDigits: 3 });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 4 });
const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const toSeconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const toMinutes = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Larger numbers are shortened. */
const COMPACT_FROM = 100_000;

/** @param {number | null | undefined} value */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= COMPACT_FROM) return compact.format(value);
  if (Number.isInteger(value)) return integer.format(value);
  return size < 1 ? small.format(value) : decimal.format(value);
}

/** @param {number} value @returns {string} in the room that an axis has */
export function axisNumber(value) {
  return Math.abs(value) > 0 && Math.abs(value) < 1 ? small.format(value) : short.format(value);
}

/** @param {number} ms @param {number} window_ms */
export function time(ms, window_ms) {
  return (window_ms < 60_000 ? toSeconds : toMinutes).format(ms);
}

/** @param {number} s @returns {string} as in "the last …" */
export function past(s) {
  if (s === 60 || s === 3_600) return s === 60 ? "minute" : "hour";
  return s < 3_600 ? `${s / 60} minutes` : `${s / 3_600} hours`;
}

/** @param {number} s */
export function span(s) {
  if (s < 60) return `${s} s`;
  return s < 3_600 ? `${s / 60} min` : `${s / 3_600} h`;
}
