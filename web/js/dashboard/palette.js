/**
 * The styles of the lines: six colours with sufficient contrast to the tiles of their theme and to each other, for every kind of colour
 * vision (a test simulates them), combined with four dash patterns, so that all twenty lines differ. Pure.
 */

export const LIGHT = ["#0a756a", "#bc2d0b", "#4a96dc", "#7830b0", "#bf8620", "#0c2c65"];
export const DARK = ["#6ac195", "#cc600d", "#a8dffd", "#c38bfa", "#f1ed75", "#4265d5"];
/** Lengths of strokes and gaps, in pixels. */
export const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3]];
/** Lines in one chart, at most. */
export const LINES_MAX = 20;

/** @param {number} slot */
export const dashOf = (slot) => DASHES[Math.floor(slot / LIGHT.length) % DASHES.length];

/** @param {number} slot @param {boolean} isDark */
export const colourOf = (slot, isDark) => (isDark ? DARK : LIGHT)[slot % LIGHT.length];

/** The assignment of a chart's lines to groups. A group keeps its line, and so its look, as long as it exists. */
export class Slots {
  /** @type {Map<string, number>} */
  #slots = new Map();

  /**
   * The largest groups get lines first; in the first call, lines are assigned in the given order.
   * @param {{key: string, weight: number}[]} groups
   * @returns {Map<string, number>} the line of each group that has one
   */
  assign(groups) {
    const there = new Set(groups.map(({ key }) => key));
    for (const key of this.#slots.keys()) if (!there.has(key)) this.#slots.delete(key);
    const taken = new Set(this.#slots.values());
    const free = Array.from({ length: LINES_MAX }, (_, slot) => slot).filter((slot) => !taken.has(slot));
    const waiting = groups.filter(({ key }) => !this.#slots.has(key));
    const chosen = new Set([...waiting].sort((a, b) => b.weight - a.weight).slice(0, free.length));
    for (const group of waiting) if (chosen.has(group)) this.#slots.set(group.key, /** @type {number} */ (free.shift()));
    return this.#slots;
  }

  clear() {
    this.#slots.clear();
  }
}
