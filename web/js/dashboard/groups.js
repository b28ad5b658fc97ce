/**
 * Groups series for display: each by itself, by the value of a tag, or all together. Pure.
 *
 * @typedef {import("./windows.js").Point} Point
 * @typedef {import("./windows.js").Series} Series
 * @typedef {import("./windows.js").Windows} Windows
 * @typedef {{key: string, label: string, isOne: boolean, points: Point[]}} Group points in the order of their time; `isOne`: of one series
 */
import { together } from "./measures.js";

export const EACH = "each";
export const ALL = "all";
/** The prefix of a tag's name in a split: a tag may be called "all". */
const TAG = "tag:";

/** @param {string} tag */
export const byTag = (tag) => TAG + tag;

/**
 * @param {Windows} windows
 * @param {string} name of the series
 * @param {string} split `each`, `all` or `byTag(…)`
 * @param {number} from_ms windows that begin before are left out
 * @returns {Group[]} in the order of their labels
 */
export function groupsOf(windows, name, split, from_ms) {
  /** @type {Map<string, {label: string, members: Series[]}>} */
  const found = new Map();
  for (const series of windows.series.values()) {
    if (series.name !== name) continue;
    const { key, label } = placeOf(series, split);
    const group = found.get(key) ?? { label, members: [] };
    group.members.push(series);
    found.set(key, group);
  }
  const groups = [...found].map(([key, { label, members }]) => ({ key, label, isOne: members.length === 1, points: pointsOf(members, from_ms) }));
  return groups.filter(({ points }) => points.length > 0).sort((a, b) => compare(a.label, b.label) || compare(a.key, b.key));
}

/**
 * The part of a topic to show: the choice, or if there is none or it does not exist, the first series, split by its first tag.
 * @param {{series: string | null, split: string | null}} choice
 * @param {Windows} windows
 * @returns {{series: string, split: string}}
 */
export function settled({ series, split }, windows) {
  const { names } = windows;
  const name = series !== null && names.includes(series) ? series : (names[0] ?? "");
  const byTags = windows.tagsOf(name).map(byTag);
  const isThere = split !== null && [EACH, ALL, ...byTags].includes(split);
  return { series: name, split: isThere ? split : (byTags[0] ?? EACH) };
}

/**
 * Merges groups into one.
 * @param {{points: Point[]}[]} groups
 * @param {number} from_ms
 */
export function pointsOf(groups, from_ms) {
  const [first] = groups;
  if (groups.length === 1) return first.points.slice(lowerBound(first.points, from_ms));
  /** @type {Map<number, Point>} */
  const windows = new Map();
  for (const { points } of groups) {
    for (let at = lowerBound(points, from_ms); at < points.length; at += 1) {
      const known = windows.get(points[at][0]);
      windows.set(points[at][0], known ? together(known, points[at]) : points[at]);
    }
  }
  return [...windows.values()].sort((a, b) => a[0] - b[0]);
}

/**
 * @param {Record<string, string>} tags
 * @returns {string} the values, which say enough where all series have the same tags
 */
export function labelOf(tags) {
  const values = Object.keys(tags).sort().map((tag) => tags[tag]);
  return values.join(" · ") || "no tags";
}

/** @param {Series} series @param {string} split */
function placeOf({ key, tags }, split) {
  if (split === ALL) return { key: ALL, label: "all" };
  if (!split.startsWith(TAG)) return { key, label: labelOf(tags) };
  const value = tags[split.slice(TAG.length)];
  return value === undefined ? { key: "none", label: "without" } : { key: `= ${value}`, label: value };
}

/** @param {Point[]} points @param {number} from_ms @returns {number} where the first one stands that begins then or later */
function lowerBound(points, from_ms) {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < from_ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @param {string} a @param {string} b */
function compare(a, b) {
  return a.localeCompare(b, undefined, { numeric: true });
}
