/**
 * A table of the charts' figures. A row's element exists as long as its key, and clicking a header sorts.
 *
 * @typedef {{key: string, label: string, slot?: number | undefined, cells: (number | null)[], note?: string}} Row
 * @typedef {{title: string, hint?: string, format?: (value: number | null) => string, isBar?: boolean, isOptional?: boolean}} Column
 *   an optional one is left out while it is empty
 */
import { h, Rows, setAttribute, setText } from "../../dom.js";
import { number } from "../format.js";
import { swatch } from "./swatch.js";

/** The maximum number of rows; the last ones beyond it are left out. */
export const ROWS_MAX = 200;
/** The column of the names. */
const NAME = -1;

/**
 * @param {{caption: string, name: string, columns: Column[]}} options
 */
export function tableView({ caption, name, columns }) {
  let sort = { by: NAME, isDescending: false };
  /** @type {Row[]} */
  let last = [];
  /** The largest value of each column with bars. */
  let widest = columns.map(() => 0);
  let isLeftOut = columns.map(() => false);
  const headers = [name, ...columns.map(({ title }) => title)].map((title, at) => header(title, at - 1));
  const body = h("tbody", {});
  const rows = new Rows(body, (/** @type {Row} */ { key }) => key, create);
  const more = h("p", { class: "hint" });
  const table = h("table", {}, h("caption", { class: "visually-hidden" }, caption), h("thead", {}, h("tr", {}, ...headers.map(({ node }) => node))), body);
  const node = h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": caption }, table, more);
  return { node, show };

  /** @param {Row[]} all */
  function show(all) {
    last = all;
    const shown = sorted(all).slice(0, ROWS_MAX);
    widest = columns.map(({ isBar }, at) => (isBar ? Math.max(0, ...shown.map(({ cells }) => cells[at] ?? 0)) : 0));
    isLeftOut = columns.map(({ isOptional }, at) => (isOptional ?? false) && shown.every(({ cells }) => cells[at] === null));
    headers.forEach(({ node: header }, at) => (header.hidden = isLeftOut[at - 1] ?? false));
    rows.show(shown);
    setText(more, all.length > ROWS_MAX ? `and ${all.length - ROWS_MAX} more` : "");
  }

  /** @param {Row[]} all */
  function sorted(all) {
    const { by, isDescending } = sort;
    if (by === NAME) return isDescending ? [...all].reverse() : all;
    const value = (/** @type {Row} */ row) => row.cells[by] ?? -Infinity;
    return [...all].sort((a, b) => (isDescending ? value(b) - value(a) : value(a) - value(b)));
  }

  /** @param {string} title @param {number} at */
  function header(title, at) {
    const button = h("button", { type: "button", on: { click: () => sortBy(at) } }, title);
    const hint = columns[at]?.hint;
    if (hint) button.title = hint;
    const node = h("th", { scope: "col", "aria-sort": at === NAME ? "ascending" : null }, button);
    return { node };
  }

  /** The first click sorts figures descending, names ascending.
   * @param {number} at */
  function sortBy(at) {
    sort = { by: at, isDescending: sort.by === at ? !sort.isDescending : at !== NAME };
    headers.forEach(({ node }, index) => setAttribute(node, "aria-sort", index - 1 === at ? (sort.isDescending ? "descending" : "ascending") : null));
    show(last);
  }

  /** @returns {{node: Element, update: (row: Row) => void}} */
  function create() {
    const sample = swatch();
    const label = h("span", {});
    const note = h("span", { class: "meta" });
    const cells = columns.map(({ isBar }) => h("td", { class: isBar ? "bar-cell" : null }));
    const node = h("tr", {}, h("th", { scope: "row" }, sample.node, label, note), ...cells);
    const update = (/** @type {Row} */ row) => {
      setText(label, row.label);
      setText(note, row.note ?? "");
      sample.show(row.slot);
      cells.forEach((cell, at) => {
        const value = row.cells[at] ?? null;
        cell.hidden = isLeftOut[at];
        setText(cell, (columns[at].format ?? number)(value));
        if (columns[at].isBar) cell.style.setProperty("--part", String(widest[at] > 0 ? Math.max(0, value ?? 0) / widest[at] : 0));
      });
    };
    return { node, update };
  }
}
