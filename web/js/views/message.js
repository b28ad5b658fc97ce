/** One row of a conversation: a message with its reactions, progress and actions; or a day, a notice, the unread line. */
import { fill, h } from "../dom.js";
import { clockTime, fullTime, partsOf } from "../text.js";
import { addressOf } from "../trace/ask.js";
import { avatar } from "./avatar.js";
import { confirmThat } from "./dialogs.js";
import { icon } from "./icons.js";
import { openMenu } from "./menu.js";
import { orToast } from "./status.js";

/**
 * @typedef {import("../timeline.js").Row} Row
 * @typedef {import("../timeline.js").MessageRow} MessageRow
 *
 * @typedef {object} Context
 * @property {import("../client.js").Client} client
 * @property {(row: MessageRow) => void} onEdit
 * @property {() => void} onLeave moves the focus back to the composer
 */

const EMOJI = [
  ["👍", "Thumbs up"],
  ["❤️", "Heart"],
  ["😂", "Laughing"],
  ["🎉", "Celebration"],
  ["😮", "Surprised"],
  ["😢", "Sad"],
  ["🙏", "Thanks"],
  ["👀", "Looking"],
  ["✅", "Done"],
  ["🔥", "Fire"],
  ["🚀", "Rocket"],
  ["👏", "Applause"],
];
const EMOJI_COLUMNS = 6;

/** @type {Record<import("../timeline.js").Progress, Parameters<typeof icon>[0]>} */
const PROGRESS_ICONS = { queued: "clock", sending: "clock", sent: "check", delivered: "checks", read: "checks", failed: "problem", unknown: "problem" };

/**
 * @param {Context} context
 * @param {Row} first
 * @returns {{node: HTMLElement, update: (row: Row) => void}}
 */
export function timelineRow(context, first) {
  return first.kind === "message" ? messageRow(context) : separatorRow(first);
}

/** @param {Row} row */
function separatorRow(row) {
  const node = h("li", { class: row.kind }, h("span", {}, row.kind === "message" ? "" : row.text));
  return { node, update: () => {} };
}

/** @param {Context} context */
function messageRow(context) {
  /** @type {MessageRow | null} */
  let shown = null;
  const node = h("li", { tabindex: -1, on: { keydown: onKey } });
  /** @param {KeyboardEvent} event */
  function onKey(event) {
    if (event.target !== node || shown === null) return;
    if (event.key === "Enter" || event.key === " ") openActions(context, shown, node, node);
    else if (event.key === "Escape") context.onLeave();
    else return;
    event.preventDefault();
  }
  /** @param {Row} row */
  const update = (row) => {
    if (row.kind !== "message" || same(shown, row)) return;
    shown = row;
    node.className = classesOf(row);
    const focused = /** @type {HTMLElement | null} */ (node.contains(document.activeElement) ? document.activeElement : null);
    fill(node, contentOf(context, row, node));
    if (focused && focused !== node && !focused.isConnected) node.focus();
  };
  return { node, update };
}

/** @param {MessageRow | null} before @param {MessageRow} after */
function same(before, after) {
  if (before === null) return false;
  return /** @type {(keyof MessageRow)[]} */ (Object.keys(after)).every((field) => before[field] === after[field]);
}

/** @param {MessageRow} row */
function classesOf({ mine, follows, progress, deleted }) {
  return ["message", mine ? "mine" : "theirs", follows && "follows", deleted && "deleted", progress].filter(Boolean).join(" ");
}

/**
 * @param {Context} context
 * @param {MessageRow} row
 * @param {HTMLElement} node
 */
function contentOf(context, row, node) {
  const { from, mine, named, follows, deleted, edited, content, timestamp } = row;
  const bubble = h(
    "div",
    { class: "bubble" },
    h("span", { class: named ? "sender" : "visually-hidden" }, mine ? "You" : from),
    deleted ? h("p", { class: "text" }, "Message deleted") : textOf(context, content),
    h(
      "span",
      { class: "stamp meta" },
      edited && !deleted && "edited ",
      h("time", { datetime: timestamp, title: fullTime(timestamp) }, clockTime(timestamp)),
      progressOf(row),
    ),
  );
  return [
    !mine && h("span", { class: "gutter" }, !follows && avatar(from)),
    h("div", { class: "bubble-row" }, bubble, row.seq !== null && !deleted && toolbar(context, row, node)),
    troubleOf(context, row),
    reactionsOf(context, row),
  ];
}

/**
 * @param {Context} context
 * @param {import("../types.js").Content | undefined} content
 */
function textOf({ client }, content) {
  if (content?.text === undefined) return h("p", { class: "text" }, "This message can't be shown here.");
  const isMentioned = (/** @type {string} */ name) => content.mentions?.includes(name) ?? false;
  const parts = partsOf(content.text, isMentioned).map(({ kind, text }) => {
    if (kind === "link") return h("a", { href: text, target: "_blank", rel: "noopener noreferrer" }, text);
    if (kind === "mention") return h("strong", { class: text === `@${client.store.me}` ? "mention me" : "mention" }, text);
    return text;
  });
  return h("p", { class: "text" }, parts);
}

/** @param {MessageRow} row */
function progressOf({ progress, progressText }) {
  if (progress === null) return null;
  return h(
    "span",
    { class: `progress ${progress}`, title: progressText },
    icon(PROGRESS_ICONS[progress]),
    h("span", { class: "visually-hidden" }, progressText),
  );
}

/**
 * The actions for a message that was not sent.
 * @param {Context} context
 * @param {MessageRow} row
 */
function troubleOf({ client: { outbox } }, { progress, progressText, client_id }) {
  if (client_id === null || (progress !== "failed" && progress !== "unknown")) return null;
  const again = () => (progress === "failed" ? outbox.retry(client_id) : outbox.resend(client_id));
  return h(
    "div",
    { class: "trouble" },
    h("span", {}, `${progressText}.`),
    h("button", { type: "button", class: "link", on: { click: again } }, progress === "failed" ? "Try again" : "Send again"),
    h("button", { type: "button", class: "link", on: { click: () => outbox.discard(client_id) } }, "Discard"),
  );
}

/**
 * @param {Context} context
 * @param {MessageRow} row
 */
function reactionsOf(context, row) {
  if (row.deleted || row.reactions.length === 0) return null;
  const chips = row.reactions.map(({ emoji, count, me }) =>
    h(
      "button",
      {
        ...{ type: "button", class: "chip", "aria-pressed": String(me), "aria-label": `${emoji} ${count}${me ? ", with yours" : ""}` },
        on: { click: () => react(context, row, emoji, !me) },
      },
      h("span", { class: "emoji" }, emoji),
      h("span", { class: "count" }, String(count)),
    ),
  );
  return h("div", { class: "reactions", role: "group", "aria-label": "Reactions" }, chips);
}

/**
 * The actions for the pointer. With the keyboard, Enter on the message opens the same menu.
 * @param {Context} context
 * @param {MessageRow} row
 * @param {HTMLElement} node
 */
function toolbar(context, row, node) {
  const shared = { type: "button", class: "icon-button", tabindex: -1, "aria-haspopup": "menu", "aria-expanded": "false" };
  const reactButton = h("button", { ...shared, "aria-label": "React", on: { click: () => openEmoji(context, row, reactButton, node) } }, icon("react"));
  const more = h("button", { ...shared, "aria-label": "More actions", on: { click: () => openActions(context, row, more, node) } }, icon("more"));
  return h("div", { class: "toolbar" }, reactButton, more);
}

/**
 * @param {Context} context
 * @param {MessageRow} row
 * @param {HTMLElement} opener
 * @param {HTMLElement} node the message, which gets the focus when the opener has been redrawn
 */
function openEmoji(context, row, opener, node) {
  const given = new Set(row.reactions.filter(({ me }) => me).map(({ emoji }) => emoji));
  const choices = EMOJI.map(([emoji, label]) => ({
    label,
    content: h("span", { class: "emoji" }, emoji),
    choose: () => react(context, row, emoji, !given.has(emoji)),
  }));
  openMenu(opener, "React with", choices, { columns: EMOJI_COLUMNS, fallback: () => node });
}

/**
 * @param {Context} context
 * @param {MessageRow} row
 * @param {HTMLElement} opener
 * @param {HTMLElement} node
 */
function openActions(context, row, opener, node) {
  const { client, onEdit } = context;
  const { current } = client.store;
  const { seq, content, mine, deleted } = row;
  if (seq === null || deleted || !current) return;
  const text = content?.text;
  const remove = () => confirmThat("Delete message", "It disappears for everyone.", "Delete", () => client.remove(current, seq));
  const mayDelete = mine || current.role === "owner" || current.role === "moderator";
  openMenu(
    opener,
    "Message actions",
    [
      { label: "React", choose: () => openEmoji(context, row, opener.isConnected ? opener : node, node) },
      ...(text === undefined ? [] : [{ label: "Copy text", choose: () => void orToast(copy(text)) }]),
      { label: "What became of it", choose: () => void open(addressOf(current.id, seq), "_blank", "noopener") },
      ...(mine && text !== undefined ? [{ label: "Edit", choose: () => onEdit(row) }] : []),
      ...(mayDelete ? [{ label: "Delete", danger: true, choose: remove }] : []),
    ],
    { fallback: () => node },
  );
}

/** The clipboard is available only in secure contexts. @param {string} text */
async function copy(text) {
  if (!navigator.clipboard) throw new Error("The browser allows copying only on pages served with TLS.");
  await navigator.clipboard.writeText(text);
}

/**
 * @param {Context} context
 * @param {MessageRow} row
 * @param {string} emoji
 * @param {boolean} on
 */
function react({ client }, { seq }, emoji, on) {
  const { current } = client.store;
  if (current && seq !== null) void orToast(client.react(current, seq, emoji, on));
}
