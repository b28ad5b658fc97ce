/** The view of one topic: figures, lines, bars and a table of one of its series. Owns which lines are hidden, and which group has which line. */
import { h, setText } from "../../dom.js";
import { barsOf, lineOf, timesOf } from "../columns.js";
import { number, span as spanText, time } from "../format.js";
import { groupsOf, pointsOf, settled } from "../groups.js";
import { MEASURES, together } from "../measures.js";
import { LINES_MAX, Slots } from "../palette.js";
import { Chart } from "./chart.js";
import { emptyView } from "./empty.js";
import { figureView } from "./figure.js";
import { legendView } from "./legend.js";
import { tableView } from "./table.js";

/**
 * @typedef {import("../choice.js").Choice} Choice
 * @typedef {import("../columns.js").Span} Span
 * @typedef {import("../groups.js").Group} Group
 * @typedef {import("../windows.js").Point} Point
 * @typedef {{choice: Choice, windows: import("../windows.js").Windows, span: Span, isCurrent: boolean}} Frame
 */

const LINES_PX = 300;
const BARS_PX = 220;

export class TopicView {
  #slots = new Slots();
  /** The current meaning of the lines. */
  #subject = "";
  /** @type {Set<string>} */
  #hidden = new Set();

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#legend = legendView((keys, isHidden) => {
      for (const key of keys) isHidden ? this.#hidden.add(key) : this.#hidden.delete(key);
      onChange();
    });
    const tile = (/** @type {string} */ of, /** @type {(Node | string)[]} */ ...inside) => h("section", { class: `tile ${of}` }, ...inside);
    this.#tiles = h(
      "div",
      { class: "tiles" },
      h("div", { class: "figures" }, ...Object.values(this.#figures).map(({ node }) => node)),
      tile("line-tile", h("header", {}, this.#title, this.#note), this.#lines.node, this.#legend.node),
      tile("bar-tile", h("header", {}, this.#barsTitle, this.#barsNote), this.#bars.node),
      tile("table-tile", h("header", {}, h("h2", {}, "In the whole range")), this.#table.node),
    );
    this.node = h("div", {}, this.#empty.node, this.#tiles);
  }
  #legend;
  #tiles;
  #empty = emptyView();
  #figures = { count: figureView("Events"), sum: figureView("Sum"), mean: figureView("Mean"), max: figureView("Largest") };
  #title = h("h2", {});
  #note = h("p", { class: "hint" });
  #barsTitle = h("h2", {});
  #barsNote = h("p", { class: "hint" });
  #lines = new Chart({ height_px: LINES_PX });
  #bars = new Chart({ height_px: BARS_PX, kind: "bars" });
  #table = tableView({
    caption: "Each line's figures in the whole range",
    name: "Line",
    columns: [
      { title: "Events", isBar: true },
      { title: "Sum", isBar: true },
      { title: "Mean" },
      { title: "Smallest" },
      { title: "Largest" },
      { title: "p95", isOptional: true, hint: "Of the newest window; there is none of several series together" },
    ],
  });

  /** @param {Frame} frame */
  show({ choice, windows, span, isCurrent }) {
    const { series, split } = settled(choice, windows);
    const groups = groupsOf(windows, series, split, span.from_ms);
    this.#tiles.hidden = groups.length === 0;
    if (groups.length === 0) return this.#empty.show(choice, isCurrent);
    this.#empty.hide();
    const slots = this.#slotsFor(JSON.stringify([choice.topic, series, split]), groups);
    const total = pointsOf(groups, span.from_ms);
    this.#showFigures(total, span);
    this.#showLines(groups, slots, { choice, series, windows, span });
    this.#showBars(total, span);
    this.#table.show(groups.map((group) => rowOf(group, slots.get(group.key))));
  }

  /** @param {string} subject @param {Group[]} groups */
  #slotsFor(subject, groups) {
    if (subject !== this.#subject) {
      this.#slots.clear();
      this.#hidden.clear();
    }
    this.#subject = subject;
    return this.#slots.assign(groups.map(({ key, points }) => ({ key, weight: points.reduce((sum, point) => sum + MEASURES.count.of(point), 0) })));
  }

  /** @param {Point[]} total @param {Span} span */
  #showFigures(total, { window_ms, from_ms, edge_ms, to_ms }) {
    const whole = total.reduce(together);
    // Until the first window is complete, it is the only data.
    const isFirst = total[0][0] >= edge_ms;
    const newest = isFirst ? total[0] : total.findLast(([start_ms]) => start_ms === edge_ms - window_ms);
    const each = isFirst ? "so far" : `a ${eachOf({ window_ms })}`;
    const range = spanText(Math.round((to_ms - from_ms) / 1_000));
    const { count, sum, mean, max, min } = MEASURES;
    this.#figures.count.show(number(newest ? count.of(newest) : 0), `${each} · ${number(count.of(whole))} in ${range}`);
    this.#figures.sum.show(number(newest ? sum.of(newest) : 0), `${each} · ${number(sum.of(whole))} in ${range}`);
    this.#figures.mean.show(number(mean.of(whole)), `in ${range}`);
    this.#figures.max.show(number(max.of(whole)), `smallest ${number(min.of(whole))}`);
  }

  /**
   * @param {Group[]} groups
   * @param {Map<string, number>} slots
   * @param {{choice: Choice, series: string, windows: import("../windows.js").Windows, span: Span}} of
   */
  #showLines(groups, slots, { choice: { measure }, series, windows, span }) {
    const since_ms = windows.oldest_ms;
    const drawn = groups.flatMap(({ key, label, points }) => {
      const slot = slots.get(key);
      return slot === undefined ? [] : [{ key, label, slot, points }];
    });
    const visible = drawn.filter(({ key }) => !this.#hidden.has(key));
    const lines = visible.map(({ label, slot, points }) => ({ label, slot, values: lineOf(points, measure, span, since_ms) }));
    const { title: measured, isPercentile } = MEASURES[measure];
    const title = `${series}: ${measured.toLowerCase()} in each ${eachOf(span)}`;
    this.#lines.show({ title, times: timesOf(span), lines, range: { min: span.from_ms / 1_000, max: (span.to_ms - span.window_ms) / 1_000 }, window_ms: span.window_ms });
    this.#legend.show(drawn, this.#hidden);
    setText(this.#title, title);
    const isWaiting = (MEASURES[measure].isTotal ?? false) && since_ms >= span.edge_ms;
    setText(this.#note, noteOf({ groups, drawn: drawn.length, isPercentile: isPercentile ?? false, isWaiting, since_ms, span }));
  }

  /** @param {Point[]} total @param {Span} span */
  #showBars(total, span) {
    const [whole, growing] = barsOf(total, "count", span);
    const lines = [
      { label: "events", slot: 0, values: whole },
      { label: "so far", slot: 1, values: growing },
    ];
    const title = `Events in each ${eachOf(span)}`;
    this.#bars.show({ title, times: timesOf(span), lines, range: { min: span.from_ms / 1_000, max: span.to_ms / 1_000 }, window_ms: span.window_ms });
    setText(this.#barsTitle, title);
    setText(this.#barsNote, "All lines together; pale: still counting");
  }
}

/** @param {Pick<Span, "window_ms">} span */
function eachOf({ window_ms }) {
  return window_ms === 1_000 ? "second" : "minute";
}

/**
 * Notes about what the lines don't show.
 * @param {{groups: Group[], drawn: number, isPercentile: boolean, isWaiting: boolean, since_ms: number, span: Span}} of
 */
function noteOf({ groups, drawn, isPercentile, isWaiting, since_ms, span }) {
  const notes = [];
  if (isWaiting) notes.push("The first window is still counting: its line begins when it ends.");
  if (isPercentile && groups.some(({ isOne }) => !isOne)) notes.push("Percentiles of several series can't be put together: choose a line for each series.");
  if (drawn < groups.length) notes.push(`${LINES_MAX} of ${groups.length} are drawn; the table has all.`);
  if (since_ms > span.from_ms + span.window_ms) notes.push(`Since ${time(since_ms, span.window_ms)}.`);
  return notes.join(" ");
}

/** @param {Group} group @param {number | undefined} slot @returns {import("./table.js").Row} */
function rowOf({ key, label, isOne, points }, slot) {
  const whole = points.reduce(together);
  const { count, sum, mean, min, max, p95 } = MEASURES;
  const last = points[points.length - 1];
  return { key, label, slot, cells: [count.of(whole), sum.of(whole), mean.of(whole), min.of(whole), max.of(whole), isOne ? p95.of(last) : null] };
}
