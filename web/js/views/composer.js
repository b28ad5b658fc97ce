/** The composer: Enter sends, Shift+Enter breaks the line, @ offers the members, ArrowUp in an empty field edits the last message. */
import { fill, h, setAttribute, setText } from "../dom.js";
import { keyOf } from "../outbox.js";
import { avatar } from "./avatar.js";
import { icon } from "./icons.js";
import { orToast, toast } from "./status.js";

const SUGGESTIONS_MAX = 6;

/**
 * @typedef {import("../timeline.js").MessageRow} MessageRow
 * @typedef {{node: HTMLElement, show: (name: string) => void, edit: (row: MessageRow) => void, focus: () => void}} Composer
 */

/**
 * @param {import("../client.js").Client} client
 * @param {() => MessageRow | undefined} lastOwn the newest own message that can be edited
 * @returns {Composer}
 */
export function composer(client, lastOwn) {
  /** @type {Map<string, string>} unfinished text, by conversation */
  const drafts = new Map();
  let key = "";
  /** @type {number | null} */
  let editing = null;
  /** @type {{names: string[], at: number, chosen: number}} */
  let suggested = { names: [], at: 0, chosen: 0 };

  const label = h("label", { for: "composer-text", class: "visually-hidden" });
  const textarea = h("textarea", {
    ...{ id: "composer-text", rows: 1, autocomplete: "off", "aria-autocomplete": "list", "aria-controls": "composer-suggestions" },
    on: { input: onInput, keydown: onKey, blur: () => client.typing.stop() },
  });
  const cancel = h("button", { type: "button", class: "icon-button", "aria-label": "Stop editing", on: { click: stopEditing } }, icon("close"));
  const strip = h("div", { class: "editing" }, icon("edit"), h("span", {}, "Editing a message"), cancel);
  const suggestions = h("ul", { id: "composer-suggestions", class: "suggestions", role: "listbox", "aria-label": "Members to mention" });
  const sendButton = h("button", { type: "submit", class: "send", "aria-label": "Send" }, icon("send"));
  const field = h("div", { class: "composer-field" }, label, textarea, sendButton);
  const node = h("form", { class: "composer", on: { submit: onSubmit } }, suggestions, strip, field);
  strip.hidden = suggestions.hidden = true;

  /** @param {string} name of the conversation in view */
  function show(name) {
    const next = client.target === null ? "" : keyOf(client.target);
    setText(label, `Message ${name}`);
    setAttribute(textarea, "placeholder", `Message ${name}`);
    if (next === key) return;
    if (editing === null) drafts.set(key, textarea.value);
    key = next;
    editing = null;
    put(drafts.get(key) ?? "");
  }

  /** @param {string} text */
  function put(text) {
    textarea.value = text;
    strip.hidden = editing === null;
    suggest();
    fit();
  }

  /** For browsers without `field-sizing`. */
  function fit() {
    if (CSS.supports("field-sizing", "content")) return;
    textarea.style.height = "auto";
    textarea.style.height = `${textarea.scrollHeight}px`;
  }

  function onInput() {
    const { current } = client.store;
    if (textarea.value === "") client.typing.stop();
    else if (current && editing === null) client.typing.typed(current);
    suggest();
    fit();
  }

  /** @param {Event} event */
  function onSubmit(event) {
    event.preventDefault();
    const text = textarea.value.trim();
    if (text === "") return;
    if (editing !== null) return submitEdit(text, editing);
    const problem = client.send(text);
    if (problem) return toast(problem);
    drafts.delete(key);
    put("");
  }

  /**
   * @param {string} text
   * @param {number} seq
   */
  function submitEdit(text, seq) {
    const { current } = client.store;
    if (current) void orToast(client.edit(current, seq, text));
    stopEditing();
  }

  /** @param {MessageRow} row */
  function edit(row) {
    if (editing === null) drafts.set(key, textarea.value);
    editing = row.seq;
    put(row.content?.text ?? "");
    textarea.focus();
  }

  function stopEditing() {
    editing = null;
    put(drafts.get(key) ?? "");
    textarea.focus();
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.isComposing) return;
    if (!suggestions.hidden && onSuggestionKey(event.key)) return event.preventDefault();
    const last = event.key === "ArrowUp" && textarea.value === "" ? lastOwn() : undefined;
    if (event.key === "Enter" && !event.shiftKey) node.requestSubmit();
    else if (event.key === "Escape" && editing !== null) stopEditing();
    else if (last) edit(last);
    else return;
    event.preventDefault();
  }

  /** @param {string} pressed @returns {boolean} whether the suggestions have handled it */
  function onSuggestionKey(pressed) {
    const { names, chosen } = suggested;
    if (pressed === "ArrowDown" || pressed === "ArrowUp") {
      suggested.chosen = (chosen + (pressed === "ArrowDown" ? 1 : -1) + names.length) % names.length;
      showSuggestions();
    } else if (pressed === "Enter" || pressed === "Tab") complete(names[chosen]);
    else if (pressed === "Escape") suggestions.hidden = true;
    else return false;
    return true;
  }

  function suggest() {
    const before = textarea.value.slice(0, textarea.selectionStart);
    const [, word] = /(?:^|\s)@([A-Za-z0-9_\-.:]*)$/.exec(before) ?? [];
    const { me, current } = client.store;
    const members = word === undefined ? [] : [...(current?.members?.keys() ?? [])];
    const names = members.filter((name) => name !== me && name.toLowerCase().startsWith(word.toLowerCase())).slice(0, SUGGESTIONS_MAX);
    suggested = { names, at: before.length - (word?.length ?? 0), chosen: 0 };
    showSuggestions();
  }

  function showSuggestions() {
    const { names, chosen } = suggested;
    suggestions.hidden = names.length === 0;
    fill(
      suggestions,
      names.map((name, at) =>
        h(
          "li",
          {
            ...{ id: `suggestion-${at}`, role: "option", "aria-selected": String(at === chosen) },
            on: { pointerdown: (event) => (event.preventDefault(), complete(name)) },
          },
          avatar(name),
          name,
        ),
      ),
    );
    setAttribute(textarea, "aria-activedescendant", names.length > 0 ? `suggestion-${chosen}` : null);
  }

  /** @param {string} name */
  function complete(name) {
    textarea.setRangeText(`${name} `, suggested.at, textarea.selectionStart, "end");
    suggest();
  }

  return { node, show, edit, focus: () => textarea.focus() };
}
