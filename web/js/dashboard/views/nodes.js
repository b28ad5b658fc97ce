/** The operator's overview: every figure of `$node`, a line for each node, and a table of the nodes. Owns which nodes are hidden. */
import { h, setAttribute, setText } from "../../dom.js";
import { lineOf, timesOf } from "../columns.js";
import { time } from "../format.js";
import { byTag, groupsOf } from "../groups.js";
import { FIGURES, latest, silentSince, whole } from "../nodes.js";
import { Slots } from "../palette.js";
import { Chart } from "./chart.js";
import { legendView } from "./legend.js";
import { tableView } from "./table.js";

/**
 * @typedef {import("../groups.js").Group} Group
 * @typedef {import("../columns.js").Span} Span
 * @typedef {{figure: import("../nodes.js").Figure, groups: Group[]}} Told
 */

const CHART_PX = 120;
/** The figures with a column in the table. */
const IN_TABLE = ["connections", "sends", "deliveries", "send_p99_ms", "delivery_p99_ms", "session_queue_bytes", "overloaded"];
const COLUMNS = FIGURES.filter(({ series }) => IN_TABLE.includes(series));

export class NodesView {
  #slots = new Slots();
  /** @type {Set<string>} */
  #hidden = new Set();

  /** @param {() => void} onChange */
  constructor(onChange) {
    this.#legend = legendView((keys, isHidden) => {
      for (const key of keys) isHidden ? this.#hidden.add(key) : this.#hidden.delete(key);
      onChange();
    });
    this.#tiles = FIGURES.map(tileOf);
    const tile = h("section", { class: "tile table-tile" }, h("header", {}, h("h2", {}, "Nodes"), this.#summary), this.#table.node, this.#legend.node);
    this.#body = h("div", { class: "nodes" }, tile, h("div", { class: "node-tiles" }, ...this.#tiles.map(({ node }) => node)));
    this.#waiting = h("p", { class: "tile hint", hidden: true }, "No node has published its figures yet. Nodes do so once a second.");
    this.node = h("div", {}, this.#waiting, this.#body);
  }
  #legend;
  #tiles;
  #body;
  #waiting;
  #summary = h("p", { class: "hint" });
  #table = tableView({ caption: "Each node's newest figures", name: "Node", columns: COLUMNS.map(({ title, hint, format }) => ({ title, hint, format })) });

  /** @param {import("./topic.js").Frame} frame */
  show({ windows, span, isCurrent }) {
    const told = FIGURES.map((figure) => ({ figure, groups: groupsOf(windows, figure.series, byTag("node"), span.from_ms) }));
    const nodes = told[0].groups;
    this.#body.hidden = nodes.length === 0;
    this.#waiting.hidden = nodes.length > 0 || !isCurrent;
    if (nodes.length === 0) return;
    const slots = this.#slots.assign(nodes.map(({ key }) => ({ key, weight: 0 })));
    this.#showTable(nodes, told, slots, span);
    told.forEach((one, at) => this.#tiles[at].show(one, slots, this.#hidden, span));
  }

  /**
   * @param {Group[]} nodes
   * @param {Told[]} told
   * @param {Map<string, number>} slots
   * @param {Span} span
   */
  #showTable(nodes, told, slots, span) {
    const columns = told.filter(({ figure }) => COLUMNS.includes(figure));
    const rows = nodes.map((node) => {
      const since_ms = silentSince(node, span);
      const cells = columns.map(({ groups }) => {
        const group = since_ms === null && groups.find(({ key }) => key === node.key);
        return group ? latest(group, span) : null;
      });
      return { key: node.key, label: node.label, slot: slots.get(node.key), cells, note: since_ms === null ? "" : `silent since ${time(since_ms, 1_000)}` };
    });
    this.#table.show(rows);
    const silent = rows.filter(({ note }) => note !== "").length;
    setText(this.#summary, `${rows.length - silent} reporting${silent > 0 ? `, ${silent} silent` : ""}`);
    this.#legend.node.hidden = nodes.length < 2;
    this.#legend.show(nodes.flatMap(({ key, label }) => {
      const slot = slots.get(key);
      return slot === undefined ? [] : [{ key, label, slot }];
    }), this.#hidden);
  }
}

/** @param {import("../nodes.js").Figure} figure */
function tileOf(figure) {
  const chart = new Chart({ height_px: CHART_PX, format: figure.format });
  const value = h("p", { class: "figure" });
  const of = figure.together === "sum" ? "all nodes" : "the slowest node";
  const node = h("section", { class: "tile node-tile", "data-figure": figure.series }, h("header", {}, h("h2", {}, figure.title), value), h("p", { class: "hint" }, `${figure.hint}; ${of}.`), chart.node);
  return {
    node,
    /** @param {Told} told @param {Map<string, number>} slots @param {Set<string>} hidden @param {Span} span */
    show({ groups }, slots, hidden, span) {
      setText(value, figure.format(whole(figure, groups.map((group) => latest(group, span)))));
      setAttribute(node, "data-quiet", groups.length === 0);
      const lines = groups.flatMap(({ key, label, points }) => {
        const slot = slots.get(key);
        return slot === undefined || hidden.has(key) ? [] : [{ label, slot, values: lineOf(points, "mean", span, Infinity) }];
      });
      chart.show({ title: figure.title, times: timesOf(span), lines, range: { min: span.from_ms / 1_000, max: (span.to_ms - span.window_ms) / 1_000 }, window_ms: span.window_ms });
    },
  };
}
