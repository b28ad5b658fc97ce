/**
 * The measures of a window, or of several merged ones. Pure.
 *
 * @typedef {import("./windows.js").Point} Point
 * @typedef {"count"|"sum"|"mean"|"min"|"max"|"p50"|"p95"|"p99"} Measure
 */

const [COUNT, SUM, MIN, MAX, P50, P95, P99] = [1, 2, 3, 4, 5, 6, 7];

/** @type {Record<Measure, {title: string, isTotal?: boolean, isPercentile?: boolean, of: (point: Point) => number}>} */
export const MEASURES = {
  count: { title: "Events", isTotal: true, of: (point) => point[COUNT] },
  sum: { title: "Sum", isTotal: true, of: (point) => point[SUM] },
  mean: { title: "Mean", of: (point) => point[SUM] / point[COUNT] },
  min: { title: "Smallest", of: (point) => point[MIN] },
  max: { title: "Largest", of: (point) => point[MAX] },
  p50: { title: "Median (p50)", isPercentile: true, of: (point) => point[P50] },
  p95: { title: "p95", isPercentile: true, of: (point) => point[P95] },
  p99: { title: "p99", isPercentile: true, of: (point) => point[P99] },
};

/** @param {string | null} text @returns {text is Measure} */
export function isMeasure(text) {
  return text !== null && Object.hasOwn(MEASURES, text);
}

/**
 * Merges two windows. Percentiles can't be merged, so the result has none.
 * @param {Point} a
 * @param {Point} b
 * @returns {Point} that begins as the first one does
 */
export function together(a, b) {
  return [a[0], a[COUNT] + b[COUNT], a[SUM] + b[SUM], Math.min(a[MIN], b[MIN]), Math.max(a[MAX], b[MAX]), NaN, NaN, NaN];
}
