/** Text as people write and read it: names, mentions, times. Pure, except for the browser's language and time zone. */

/** PROTOCOL §1: the characters of an id. */
const NAME = /^[A-Za-z0-9_\-.:@]{1,128}$/;
const MENTION = /(^|[^A-Za-z0-9_\-.:@])@([A-Za-z0-9_\-.:@]+)/g;
const MENTIONS_MAX = 100;
const LINK = /https?:\/\/[^\s<>"']+/g;
const TONES = 8;

/** @param {string} name */
export function isName(name) {
  return NAME.test(name);
}

/**
 * @param {string} text several names, between commas or spaces
 * @returns {string[]} each once
 */
export function namesIn(text) {
  return [...new Set(text.split(/[\s,;]+/).filter(Boolean))];
}

/**
 * @param {string} text
 * @param {(name: string) => boolean} isMember
 * @returns {string[]} the members it mentions
 */
export function mentionsIn(text, isMember) {
  const named = [...text.matchAll(MENTION)].flatMap(([, , word]) => mentioned(word, isMember) ?? []);
  return [...new Set(named)].slice(0, MENTIONS_MAX);
}

/**
 * Splits a message into parts that are displayed differently.
 * @param {string} text
 * @param {(name: string) => boolean} isMentioned
 * @returns {{kind: "text"|"mention"|"link", text: string}[]}
 */
export function partsOf(text, isMentioned) {
  const marks = [
    ...[...text.matchAll(LINK)].map(({ 0: link, index }) => ({ kind: /** @type {const} */ ("link"), at: index, text: link.replace(/[.,;:!?)]+$/, "") })),
    ...[...text.matchAll(MENTION)].flatMap(({ 1: before, 2: word, index }) => {
      const name = mentioned(word, isMentioned);
      return name ? [{ kind: /** @type {const} */ ("mention"), at: index + before.length, text: `@${name}` }] : [];
    }),
  ].sort((a, b) => a.at - b.at);
  /** @type {{kind: "text"|"mention"|"link", text: string}[]} */
  const parts = [];
  let end = 0;
  for (const mark of marks) {
    if (mark.at < end) continue;
    if (mark.at > end) parts.push({ kind: "text", text: text.slice(end, mark.at) });
    parts.push({ kind: mark.kind, text: mark.text });
    end = mark.at + mark.text.length;
  }
  if (end < text.length) parts.push({ kind: "text", text: text.slice(end) });
  return parts;
}

/**
 * The name that a word after "@" begins with: dots and colons may be part of the name or of the sentence.
 * @param {string} word
 * @param {(name: string) => boolean} isKnown
 * @returns {string | undefined}
 */
function mentioned(word, isKnown) {
  for (let name = word; name.length > 0; name = name.slice(0, -1)) {
    if (isKnown(name)) return name;
    if (!/[.:@\-]$/.test(name)) return undefined;
  }
  return undefined;
}

/** @param {string} content as it goes over the wire @returns {number} bytes */
export function bytesOf(content) {
  return new TextEncoder().encode(content).length;
}

/** @param {string} name @returns {string} a class that gives a person or group a colour of their own */
export function toneOf(name) {
  let hash = 0;
  for (const character of name) hash = (hash * 31 + (character.codePointAt(0) ?? 0)) >>> 0;
  return `tone-${hash % TONES}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY_MS = 86_400_000;

/** @param {string} timestamp */
export function clockTime(timestamp) {
  return CLOCK.format(new Date(timestamp));
}

/** @param {string} timestamp */
export function fullTime(timestamp) {
  return FULL.format(new Date(timestamp));
}

/** @param {string} timestamp */
export function dayOf(timestamp) {
  const days = daysAgo(timestamp);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days > 1 && days < 7 ? WEEKDAY.format(new Date(timestamp)) : DATE.format(new Date(timestamp));
}

/** @param {string} timestamp @returns {string} the time of today, else the day */
export function shortTime(timestamp) {
  return daysAgo(timestamp) === 0 ? clockTime(timestamp) : dayOf(timestamp);
}

/** @param {string} timestamp */
function daysAgo(timestamp) {
  const midnight = (/** @type {Date} */ date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
  return Math.round((midnight(new Date()) - midnight(new Date(timestamp))) / DAY_MS);
}

/** @param {string[]} names @returns {string} "alice", "alice and bob", "alice, bob and 3 others" */
export function listNames(names) {
  if (names.length > 3) return `${names.slice(0, 2).join(", ")} and ${names.length - 2} others`;
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** @param {number} count @param {string} noun */
export function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
