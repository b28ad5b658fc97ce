/** A popup menu beside its opener, with arrow keys, Home, End, Enter and Esc. Only one is open at a time. */
import { h } from "../dom.js";

/**
 * @typedef {object} Choice
 * @property {string} label the accessible name, also shown unless `content` is given
 * @property {Node | string} [content]
 * @property {boolean} [checked] makes it a radio item
 * @property {boolean} [danger]
 * @property {() => void} choose
 */

const GAP_PX = 6;
const MARGIN_PX = 8;

/** @type {(() => void) | null} */
let closeOpen = null;

/**
 * @param {HTMLElement} opener gets the focus back
 * @param {string} label
 * @param {Choice[]} choices
 * @param {{columns?: number, fallback?: () => HTMLElement | null}} [options] the fallback takes the focus when the opener has gone
 */
export function openMenu(opener, label, choices, { columns = 1, fallback } = {}) {
  closeOpen?.();
  const buttons = choices.map((choice) =>
    h(
      "button",
      {
        type: "button",
        role: choice.checked === undefined ? "menuitem" : "menuitemradio",
        "aria-checked": choice.checked === undefined ? null : String(choice.checked),
        "aria-label": choice.content === undefined ? null : choice.label,
        class: choice.danger ? "danger" : null,
        tabindex: -1,
        on: { click: () => (close(true), choice.choose()) },
      },
      choice.content ?? choice.label,
    ),
  );
  const menu = h("div", { class: columns > 1 ? "menu grid" : "menu", role: "menu", "aria-label": label, on: { keydown: onKey } }, buttons);

  /** @param {boolean} refocus */
  function close(refocus) {
    closeOpen = null;
    menu.remove();
    document.removeEventListener("pointerdown", onOutside, true);
    opener.setAttribute("aria-expanded", "false");
    if (refocus) (opener.isConnected ? opener : fallback?.())?.focus();
  }

  /** @param {PointerEvent} event */
  function onOutside(event) {
    if (!menu.contains(/** @type {Node} */ (event.target))) close(false);
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    /** @type {Record<string, number>} */
    const across = columns > 1 ? { ArrowRight: at + 1, ArrowLeft: at - 1 } : {};
    /** @type {Record<string, number>} */
    const moves = { ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: buttons.length - 1, ...across };
    if (event.key === "Escape") close(true);
    else if (event.key === "Tab") return close(true);
    else if (event.key in moves) buttons[(moves[event.key] + buttons.length) % buttons.length].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // In the same landmark as its opener; and in a modal dialog, because that covers everything outside of it.
  (opener.closest("dialog, main, aside") ?? document.body).append(menu);
  place(menu, opener);
  document.addEventListener("pointerdown", onOutside, true);
  opener.setAttribute("aria-expanded", "true");
  closeOpen = () => close(false);
  (buttons[choices.findIndex((choice) => choice.checked)] ?? buttons[0])?.focus();
}

/**
 * @param {HTMLElement} menu
 * @param {HTMLElement} opener
 */
function place(menu, opener) {
  const around = opener.getBoundingClientRect();
  const { width, height } = menu.getBoundingClientRect();
  const below = around.bottom + GAP_PX;
  const top = below + height + MARGIN_PX < innerHeight ? below : around.top - GAP_PX - height;
  const left = Math.min(around.left, innerWidth - width - MARGIN_PX);
  menu.style.top = `${Math.max(MARGIN_PX, top)}px`;
  menu.style.left = `${Math.max(MARGIN_PX, left)}px`;
}
