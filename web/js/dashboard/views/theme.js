/** Light or dark, as the reader's system is; the lines' colours follow it, here for the stylesheet and in the charts for their canvas. */
import { colourOf, LIGHT } from "../palette.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

/** @param {number} slot @returns {string} for a canvas, which knows no variables */
export const lineColour = (slot) => colourOf(slot, dark.matches);

/** @param {number} slot @returns {string} for the stylesheet */
export const lineVariable = (slot) => `var(--line-${slot % LIGHT.length})`;

/** @param {string} name @returns {string} what a variable of the stylesheet is now */
export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

/** @param {() => void} then */
export function onTheme(then) {
  dark.addEventListener("change", then);
}

/** Gives the stylesheet the lines' colours, from now on. */
export function setTheme() {
  const set = () => LIGHT.forEach((_, slot) => document.documentElement.style.setProperty(`--line-${slot}`, lineColour(slot)));
  set();
  onTheme(set);
}
