/**
 * A chart: a canvas that is redrawn on changes, and never rebuilt. uPlot draws; this adds the page's colours,
 * a tooltip, and the keyboard. All lines exist from the start, most of them empty.
 *
 * @typedef {(number | null)[]} Values
 * @typedef {{min: number, max: number}} Range
 * @typedef {{label: string, slot: number, values: Values}} Line
 * @typedef {{title: string, times: number[], lines: Line[], range: Range, window_ms: number}} Drawing times and range in seconds
 */
import { h, setAttribute, setText } from "../../dom.js";
import { axisNumber, number, time } from "../format.js";
import { dashOf, LINES_MAX } from "../palette.js";
import { swatch } from "./swatch.js";
import { lineColour, onTheme, variable } from "./theme.js";

const AXIS_PX = 54;
const NEAR_PX = 14;
const AXIS_FONT = "11px ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace";
/** The steps of the grid, without 2.5: counts are whole numbers. */
const INCREMENTS = Array.from({ length: 18 }, (_, at) => [1, 2, 5].map((step) => step * 10 ** (at - 4))).flat();
/** Up to this range the axis shows seconds. */
const SECONDS_UP_TO_S = 600;
/** The opacity of bars that are still growing, as two hexadecimal digits. */
const GROWING = "59";

export class Chart {
  /** @type {Line[]} by slot; slots without a line draw nothing */
  #lines = [];
  #window_ms = 1_000;

  /**
   * @param {{height_px: number, kind?: "lines" | "bars", format?: (value: number) => string}} options
   */
  constructor({ height_px, kind = "lines", format = number }) {
    this.#format = format;
    this.#tip = new Tooltip(format);
    this.#spoken = h("p", { class: "visually-hidden", "aria-live": "polite" });
    this.host = h("div", { class: "chart", tabindex: "0", role: "group", on: { keydown: (event) => this.#key(event), blur: () => this.#leave() } });
    this.#plot = new uPlot(this.#options(height_px, kind), [[], ...Array.from({ length: LINES_MAX }, () => [])], this.host);
    this.#plot.over.append(this.#tip.node);
    this.node = h("div", { class: "chart-frame" }, this.host, this.#spoken);
    new ResizeObserver(([{ contentRect }]) => this.#resize(contentRect.width, height_px)).observe(this.host);
    onTheme(() => this.#plot.redraw(false));
  }
  #format;
  #tip;
  #spoken;
  #plot;

  /** @param {Drawing} drawing */
  show({ title, times, lines, range, window_ms }) {
    setAttribute(this.host, "aria-label", `${title}. Left and right arrow keys read it out.`);
    const nothing = new Array(times.length).fill(null);
    this.#lines = [];
    this.#window_ms = window_ms;
    for (const line of lines) this.#lines[line.slot] = line;
    const values = Array.from({ length: LINES_MAX }, (_, slot) => this.#lines[slot]?.values ?? nothing);
    this.#plot.batch(() => {
      this.#plot.setData([times, ...values], false);
      this.#plot.setScale("x", range);
      this.#plot.setScale("y", rangeOf(values));
    });
  }

  /**
   * @param {number} height
   * @param {"lines" | "bars"} kind
   * @returns {import("uplot").Options}
   */
  #options(height, kind) {
    const [ink, line] = [() => variable("--ink-soft"), () => variable("--line")];
    const series = kind === "bars" ? bar(uPlot.paths.bars?.({ size: [0.82, 60], align: 1 })) : stroke;
    return {
      width: 320,
      height,
      padding: [10, 32, 0, 0],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { show: kind === "lines", size: 8 }, y: false },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      axes: [
        { stroke: ink, grid: { show: false }, ticks: { stroke: line, size: 4 }, space: 76, size: 30, font: AXIS_FONT, values: (_, splits) => splits.map((s) => time(s * 1_000, this.#axis_ms)) },
        { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, space: 36, incrs: INCREMENTS, size: AXIS_PX, font: AXIS_FONT, values: (_, splits) => splits.map(axisNumber) },
      ],
      series: [{}, ...Array.from({ length: LINES_MAX }, (_, slot) => series(slot))],
      hooks: { setCursor: [() => this.#point()] },
    };
  }

  get #axis_ms() {
    const { min = 0, max = 0 } = this.#plot?.scales.x ?? {};
    return max - min <= SECONDS_UP_TO_S ? 1_000 : 60_000;
  }

  /** The tooltip follows the pointer, and updates with the data under it. */
  #point() {
    const { left = -1, top = 0, idx } = this.#plot.cursor;
    if (left < 0 || idx === null || idx === undefined || this.#lines.length === 0) return this.#tip.hide();
    const rows = this.#rows(idx);
    if (rows.length === 0) return this.#tip.hide();
    this.#tip.show(this.#title(idx), rows, { left, top, width: this.#plot.over.clientWidth });
  }

  /** @param {number} index */
  #title(index) {
    return time(this.#plot.data[0][index] * 1_000, this.#window_ms);
  }

  /** @param {number} index @returns {{line: Line, value: number}[]} the largest first */
  #rows(index) {
    const rows = this.#lines.flatMap((line) => {
      const value = line?.values[index];
      return value === null || value === undefined ? [] : [{ line, value }];
    });
    return rows.sort((a, b) => b.value - a.value);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const [times] = this.#plot.data;
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -times.length, End: times.length, Escape: 0 }[event.key];
    if (step === undefined || times.length === 0) return;
    if (event.key === "Escape") return this.#leave();
    event.preventDefault();
    const { left = -1, idx } = this.#plot.cursor;
    const last = times.findLastIndex((_, at) => this.#rows(at).length > 0);
    const index = Math.max(0, Math.min(last, left < 0 || typeof idx !== "number" ? last : idx + step));
    if (index < 0) return;
    this.#plot.setCursor({ left: this.#plot.valToPos(times[index], "x") + 0.5, top: NEAR_PX });
    const values = this.#rows(index).map(({ line, value }) => `${line.label} ${this.#format(value)}`);
    setText(this.#spoken, `${this.#title(index)}: ${values.join(", ") || "nothing"}`);
  }

  #leave() {
    this.#plot.setCursor({ left: -10, top: -10 });
    setText(this.#spoken, "");
  }

  /** @param {number} width @param {number} height */
  #resize(width, height) {
    if (width > 0) this.#plot.setSize({ width: Math.floor(width), height });
  }
}

/** The rows exist from the start: moving the pointer only changes their texts. */
class Tooltip {
  /** @param {(value: number) => string} format */
  constructor(format) {
    this.#format = format;
    this.#rows = Array.from({ length: LINES_MAX }, () => {
      const [label, value] = [h("span", { class: "tip-label" }), h("b", {})];
      const sample = swatch();
      return { node: h("li", { hidden: true }, sample.node, label, value), label, value, sample };
    });
    this.node = h("div", { class: "tip", hidden: true, "aria-hidden": "true" }, this.#title, h("ul", {}, ...this.#rows.map(({ node }) => node)));
  }
  #format;
  #rows;
  #title = h("p", { class: "meta" });

  /**
   * @param {string} title
   * @param {{line: Line, value: number}[]} values
   * @param {{left: number, top: number, width: number}} place
   */
  show(title, values, { left, top, width }) {
    setText(this.#title, title);
    this.#rows.forEach(({ node, label, value, sample }, at) => {
      const row = values[at];
      node.hidden = row === undefined;
      if (!row) return;
      setText(label, row.line.label);
      setText(value, this.#format(row.value));
      sample.show(row.line.slot);
    });
    this.node.hidden = false;
    const isRight = left > width / 2;
    this.node.classList.toggle("to-the-left", isRight);
    this.node.style.left = `${isRight ? left - NEAR_PX : left + NEAR_PX}px`;
    this.node.style.top = `${Math.max(0, Math.min(top, 40))}px`;
  }

  hide() {
    this.node.hidden = true;
  }
}

/**
 * From zero, unless there are negative values: starting elsewhere would exaggerate small changes.
 * @param {Values[]} columns
 * @returns {Range}
 */
function rangeOf(columns) {
  let [min, max] = [0, 0];
  for (const column of columns) {
    for (const value of column) {
      if (value === null) continue;
      if (value > max) max = value;
      if (value < min) min = value;
    }
  }
  if (min === 0 && max === 0) return { min: 0, max: 1 };
  const [low, high] = uPlot.rangeNum(min, max, 0.1, true);
  return { min: min === 0 ? 0 : (low ?? min), max: high ?? max };
}

/**
 * A value between two gaps has no line, so it gets a dot.
 * @param {import("uplot")} plot
 * @param {number} line
 */
function alone(plot, line) {
  const values = plot.data[line];
  const is = (/** @type {number} */ at) => values[at] !== null && values[at] !== undefined;
  /** @type {number[]} */
  const found = [];
  for (let at = 0; at < values.length; at += 1) if (is(at) && !is(at - 1) && !is(at + 1)) found.push(at);
  return found;
}

/** @param {number} slot @returns {import("uplot").Series} */
function stroke(slot) {
  const colour = () => lineColour(slot);
  return { stroke: colour, width: 2, dash: dashOf(slot), points: { show: true, size: 5, fill: colour, filter: alone } };
}

/** Bars have the first line's colour. Those of the later lines are still growing, and are paler.
 * @param {import("uplot").Series.PathBuilder | undefined} paths */
function bar(paths) {
  return (/** @type {number} */ slot) => ({ fill: () => lineColour(0) + (slot === 0 ? "" : GROWING), width: 0, paths, points: { show: false } });
}
