/** The page's icons: strokes on a 24 × 24 grid, in the colour of the surrounding text. */
import { svg } from "../dom.js";

const PATHS = {
  back: ["M15 5l-7 7 7 7"],
  check: ["M4 12.5l5 5L20 6.5"],
  checks: ["M2 12.5l5 5L17 7", "M12 16.5l1.5 1L23 7"],
  clock: ["M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18", "M12 7v5l3 2"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  down: ["M12 5v14", "M6 13l6 6 6-6"],
  edit: ["M4 20l1-4L16 5l3 3L8 19z", "M14 7l3 3"],
  addGroup: ["M9 5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 0 0 0-7", "M2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6", "M19 6v6", "M16 9h6"],
  group: ["M9 5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 0 0 0-7", "M2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6", "M16 5.3a3.5 3.5 0 0 1 0 6.4", "M18 14.6c2.2.8 3.5 2.6 3.5 5.4"],
  more: ["M5 12h.01", "M12 12h.01", "M19 12h.01"],
  plus: ["M12 5v14", "M5 12h14"],
  problem: ["M12 7v6", "M12 17h.01", "M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18"],
  react: ["M12 3a9 9 0 1 0 0 18a9 9 0 0 0 0-18", "M8.5 14.5c1.8 2.5 5.2 2.5 7 0", "M9 9.5h.01", "M15 9.5h.01"],
  search: ["M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14", "M16 16l4.5 4.5"],
  send: ["M12 20V5", "M5.5 11L12 4.5l6.5 6.5"],
};

/** @param {keyof typeof PATHS} name */
export function icon(name) {
  const picture = svg("0 0 24 24", PATHS[name]);
  picture.classList.add(`icon-${name}`);
  return picture;
}

/** The logo: two jacks and a cord. */
export function mark() {
  const picture = svg("0 0 32 32", ["M10 11c0 15 12 15 12 6", "M10 6a4 4 0 1 0 0 8a4 4 0 0 0 0-8", "M22 12a4 4 0 1 0 0 8a4 4 0 0 0 0-8"]);
  picture.setAttribute("class", "mark");
  return picture;
}
