/** The legend, with a button for each line that hides and shows it. */
import { h, Rows, setAttribute, setText } from "../../dom.js";
import { swatch } from "./swatch.js";

/**
 * @typedef {{key: string, label: string, slot: number}} Item
 *
 * @param {(keys: string[], isHidden: boolean) => void} onToggle
 */
export function legendView(onToggle) {
  const list = h("ul", { class: "legend", "aria-label": "Lines" });
  /** @type {Item[]} */
  let items = [];
  /** @type {Set<string>} */
  let hidden = new Set();
  const rows = new Rows(list, (/** @type {Item} */ { key }) => key, create);
  const all = h("button", { type: "button", class: "small quiet", on: { click: () => onToggle(items.map(({ key }) => key), !areAllHidden()) } });
  const areAllHidden = () => items.every(({ key }) => hidden.has(key));
  return {
    node: h("div", { class: "legend-frame" }, list, all),
    /** @param {Item[]} shown @param {Set<string>} without */
    show(shown, without) {
      [items, hidden] = [shown, without];
      rows.show(shown);
      setText(all, areAllHidden() ? "Show all" : "Hide all");
      all.hidden = shown.length < 2;
    },
  };

  /** @param {Item} item */
  function create({ key }) {
    const sample = swatch();
    const label = h("span", {});
    const button = h("button", { type: "button", class: "legend-item", on: { click: () => onToggle([key], !hidden.has(key)) } }, sample.node, label);
    const update = (/** @type {Item} */ item) => {
      setText(label, item.label);
      setAttribute(button, "aria-pressed", String(!hidden.has(key)));
      sample.show(item.slot);
    };
    return { node: h("li", {}, button), update };
  }
}
