/** A number tile: one large figure, and below it a line that explains it. */
import { h, setText } from "../../dom.js";

/** @param {string} title */
export function figureView(title) {
  const [value, note] = [h("dd", { class: "figure" }), h("dd", { class: "meta" })];
  return {
    node: h("div", { class: "tile number-tile" }, h("dl", {}, h("dt", {}, title), value, note)),
    /** @param {string} text @param {string} under */
    show(text, under) {
      setText(value, text);
      setText(note, under);
    },
  };
}
