/**
 * The windows of one topic, as `topic_state` gave them and each `topic_update` changed them (PROTOCOL §5). Pure: no drawing, no clock.
 *
 * @typedef {[start_ms: number, count: number, sum: number, min: number, max: number, p50: number, p95: number, p99: number]} Point
 * @typedef {{series: string, tags?: Record<string, string>, points: Point[]}} SeriesPoints as they come
 * @typedef {{key: string, name: string, tags: Record<string, string>, points: Point[]}} Series points in the order of their time
 */

/** The most that a page keeps of a topic: an hour of 50 series by the second. Beyond that, the oldest windows are dropped. */
export const POINTS_MAX = 180_000;
const KEPT_MS = 3_600_000;

export class Windows {
  /** @type {Map<string, Series>} */
  series = new Map();
  version = 0;
  /** Windows that end by this time don't change any more. */
  closed_until_ms = 0;
  /** The start of the newest window so far. */
  newest_ms = 0;
  #count = 0;

  /** @param {number} points_max */
  constructor(points_max = POINTS_MAX) {
    this.#points_max = points_max;
  }
  #points_max;

  /**
   * Replaces everything.
   * @param {{version: number, series: SeriesPoints[]}} state
   */
  onState({ version, series }) {
    this.series.clear();
    this.#count = this.closed_until_ms = this.newest_ms = 0;
    this.version = version;
    this.#put(series);
  }

  /**
   * Replaces windows by their newer state. An update that is not newer changes nothing.
   * @param {{version: number, series: SeriesPoints[], closed_until_ms: number}} update
   * @returns {boolean} whether it counted
   */
  onUpdate({ version, series, closed_until_ms }) {
    if (version <= this.version) return false;
    this.version = version;
    this.closed_until_ms = Math.max(this.closed_until_ms, closed_until_ms);
    this.#put(series);
    this.#forget(this.newest_ms - KEPT_MS);
    for (let keep_ms = KEPT_MS / 2; this.#count > this.#points_max && keep_ms > 1; keep_ms /= 2) this.#forget(this.newest_ms - keep_ms);
    return true;
  }

  /**
   * Adds what did not fit into a state: windows older than those in it.
   * @param {{series: SeriesPoints[]}} older
   */
  onOlder({ series: all }) {
    for (const { series: name, tags = {}, points } of all) {
      const series = this.#seriesOf(name, tags);
      if (series.points.length > 0 && points[points.length - 1][0] >= series.points[0][0]) {
        // An update has already brought a newer state of it.
        const known = new Set(series.points.map(([start_ms]) => start_ms));
        for (const point of points) if (!known.has(point[0])) this.#putPoint(series.points, point);
      } else {
        series.points = [...points, ...series.points];
        this.#count += points.length;
      }
    }
  }

  /** @returns {boolean} whether there is no room for older ones */
  get isFull() {
    return this.#count >= this.#points_max;
  }

  /** @returns {Windows} the current windows, unaffected by later updates */
  copy() {
    const copy = new Windows(this.#points_max);
    Object.assign(copy, { version: this.version, closed_until_ms: this.closed_until_ms, newest_ms: this.newest_ms });
    for (const [key, series] of this.series) copy.series.set(key, { ...series, points: [...series.points] });
    return copy;
  }

  /** @returns {string[]} the series' names, sorted */
  get names() {
    return [...new Set([...this.series.values()].map(({ name }) => name))].sort();
  }

  /**
   * @param {string} name
   * @returns {string[]} the tags of the series of this name, sorted
   */
  tagsOf(name) {
    const tags = [...this.series.values()].filter((series) => series.name === name).flatMap((series) => Object.keys(series.tags));
    return [...new Set(tags)].sort();
  }

  /** @returns {number} the start of the oldest window; Infinity if there is none */
  get oldest_ms() {
    let oldest_ms = Infinity;
    for (const { points } of this.series.values()) oldest_ms = Math.min(oldest_ms, points[0]?.[0] ?? Infinity);
    return oldest_ms;
  }

  /** @param {SeriesPoints[]} all */
  #put(all) {
    for (const { series: name, tags = {}, points } of all) {
      const series = this.#seriesOf(name, tags);
      for (const point of points) this.#putPoint(series.points, point);
    }
  }

  /** @param {string} name @param {Record<string, string>} tags @returns {Series} made if need be */
  #seriesOf(name, tags) {
    const key = JSON.stringify([name, Object.entries(tags).sort()]);
    const series = this.series.get(key) ?? { key, name, tags, points: [] };
    this.series.set(key, series);
    return series;
  }

  /** Inserts a window or replaces its older state, searching from the end: usually it is the last one or a newer one.
   * @param {Point[]} points @param {Point} point */
  #putPoint(points, point) {
    let at = points.length;
    while (at > 0 && points[at - 1][0] > point[0]) at -= 1;
    const known = points[at - 1]?.[0] === point[0];
    points.splice(known ? at - 1 : at, known ? 1 : 0, point);
    if (!known) this.#count += 1;
    this.newest_ms = Math.max(this.newest_ms, point[0]);
  }

  /** @param {number} before_ms */
  #forget(before_ms) {
    for (const [key, { points }] of this.series) {
      let gone = 0;
      while (gone < points.length && points[gone][0] < before_ms) gone += 1;
      if (gone > 0) points.splice(0, gone);
      this.#count -= gone;
      if (points.length === 0) this.series.delete(key);
    }
  }
}
