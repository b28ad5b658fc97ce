/** Light or dark, following the system; the lines' colours follow it, here for the stylesheet and in the charts for their canvas. */
import { colourOf, LIGHT } from "../palette.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

/** @param {number} slot @returns {string} for a canvas, which knows no variables */
export const lineColour = (slot) => colourOf(slot, dark.matches);

/** @param {number} slot @returns {string} for the stylesheet */
export const lineVariable = (slot) => `var(--line-${slot % LIGHT.length})`;

/** @param {string} name @returns {string} the current value of a variable of the stylesheet */
export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

/** @param {() => void} then */
export function onTheme(then) {
  dark.addEventListener("change", then);
}

/** Sets the lines' colours in the stylesheet, and keeps them up to date. */
export function setTheme() {
  const set = () => LIGHT.forEach((_, slot) => document.documentElement.style.setProperty(`--line-${slot}`, lineColour(slot)));
  set();
  onTheme(set);
}
