/** A short piece of a line, as it looks in the charts. */
import { setAttribute, svg } from "../../dom.js";
import { dashOf } from "../palette.js";
import { lineVariable } from "./theme.js";

/** @returns {{node: SVGSVGElement, show: (slot: number | undefined) => void}} undefined: it has no line */
export function swatch() {
  const node = svg("0 0 24 8", ["M1 4h22"]);
  node.setAttribute("class", "swatch");
  const [stroke] = node.children;
  return {
    node,
    show: (slot) => {
      node.style.stroke = slot === undefined ? "none" : lineVariable(slot);
      setAttribute(stroke, "stroke-dasharray", slot === undefined ? null : dashOf(slot).join(" ") || null);
    },
  };
}
