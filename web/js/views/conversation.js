/** The conversation in view: its head, the messages with their scrolling, who is typing, and the composer. */
import { byId, fill, h, Rows, setAttribute, setText } from "../dom.js";
import { keyOf } from "../outbox.js";
import { nameOf } from "../store.js";
import { clockTime, dayOf, listNames } from "../text.js";
import { groupLine, timeline } from "../timeline.js";
import { STATUS_NAMES } from "./avatar.js";
import { composer } from "./composer.js";
import { openGroupDetails } from "./dialogs.js";
import { icon, mark } from "./icons.js";
import { timelineRow } from "./message.js";
import { showFace } from "./sidebar.js";

/** This close to the end counts as at the end. */
const AT_END_PX = 60;
/** Older messages are fetched before the top is reached. */
const NEAR_TOP_PX = 300;

/**
 * @typedef {import("../timeline.js").Row} Row
 * @typedef {import("../client.js").Client} Client
 */

/**
 * @param {Client} client
 * @returns {{focus: () => void}} moves the focus to where a conversation that was just chosen is used
 */
export function showConversation(client) {
  const { store } = client;
  const head = conversationHead(client);
  const messages = messageList(client, () => write.focus(), (row) => write.edit(row));
  const write = composer(client, () => messages.lastOwn());
  const placeholder = emptyView();
  const view = h("div", { class: "view" }, head.node, messages.node, write.node);
  fill(byId("conversation"), placeholder, view);

  const show = () => {
    const { selected } = store;
    const name = nameInView(client);
    placeholder.hidden = name !== null;
    view.hidden = name === null;
    setAttribute(byId("chat"), "data-pane", selected.kind === "none" ? "list" : "conversation");
    setAttribute(byId("conversation"), "aria-label", name === null ? "Conversation" : `Conversation with ${name}`);
    if (name === null) return;
    head.show(name);
    write.show(name);
    messages.show(name);
  };
  store.onChange(show);
  show();
  return { focus: () => (matchMedia("(pointer: coarse)").matches ? head.focus() : write.focus()) };
}

/** @param {Client} client @returns {string | null} */
function nameInView({ store }) {
  const { current, selected } = store;
  if (current) return nameOf(current);
  return selected.kind === "draft" ? selected.peer : null;
}

function emptyView() {
  return h(
    "div",
    { class: "placeholder" },
    mark(),
    h("h2", {}, "Nobody on the line"),
    h("p", { class: "hint" }, "Choose a conversation, or type a name to start one."),
  );
}

/** @param {Client} client */
function conversationHead(client) {
  const { store } = client;
  const face = h("span", { class: "face" });
  const title = h("h1", { tabindex: -1 });
  const line = h("p", { class: "meta" });
  const back = h("a", { class: "icon-button back", href: "#/", "aria-label": "Back to the conversations" }, icon("back"));
  const onDetails = () => store.current && openGroupDetails(client, store.current);
  const details = h("button", { type: "button", class: "icon-button", "aria-label": "Group details", on: { click: onDetails } }, icon("group"));
  const node = h("header", { class: "conversation-head" }, back, face, h("div", { class: "head-text" }, title, line), details);
  /** @param {string} name */
  const show = (name) => {
    const { current } = store;
    const isGroup = current?.kind === "group";
    showFace(face, name, isGroup ? undefined : (store.presence.get(name)?.status ?? "offline"));
    setText(title, name);
    setText(line, current && isGroup ? groupLine(current, (user) => isThere(client, user)) : presenceLine(client, name));
    details.hidden = !isGroup;
  };
  return { node, show, focus: () => title.focus() };
}

/** @param {Client} client @param {string} user */
function isThere({ store }, user) {
  if (user === store.me) return store.connection.phase === "online";
  return (store.presence.get(user)?.status ?? "offline") !== "offline";
}

/** @param {Client} client @param {string} user */
function presenceLine({ store }, user) {
  const { status = "offline", last_seen_at } = store.presence.get(user) ?? {};
  if (status !== "offline" || !last_seen_at) return STATUS_NAMES[status];
  return `Last seen ${dayOf(last_seen_at).toLowerCase()} at ${clockTime(last_seen_at)}`;
}

/**
 * @param {Client} client
 * @param {() => void} onLeave
 * @param {(row: import("../timeline.js").MessageRow) => void} onEdit
 */
function messageList(client, onLeave, onEdit) {
  const { store } = client;
  let key = "";
  let unread = { from: 0, to: 0 };
  let landed = false;
  let atEnd = true;
  /** @type {Row[]} */
  let shown = [];

  const beginning = h("p", { class: "beginning hint" });
  const list = h("ol", { class: "messages", on: { keydown: onArrow, focusin: onFocus } });
  const typing = h("p", { class: "typing-line" }, h("span", { class: "lamps", "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("span", {}));
  const log = h("div", { role: "log", "aria-live": "off" }, beginning, list);
  const scroller = h("div", { class: "scroller", on: { scroll: onScroll } }, log, typing);
  const jump = h("button", { type: "button", class: "jump", "aria-label": "To the newest message", on: { click: toEnd } }, icon("down"));
  const node = h("div", { class: "messages-area" }, scroller, jump);
  const rows = new Rows(list, (/** @type {Row} */ row) => `${key} ${row.key}`, (row) => timelineRow({ client, onEdit, onLeave }, row));
  new ResizeObserver(() => atEnd && toEnd()).observe(scroller);
  for (const event of ["focus", "blur"]) addEventListener(event, () => markSeen());
  document.addEventListener("visibilitychange", () => markSeen());

  /** @param {string} name of the conversation in view */
  function show(name) {
    const { current, me } = store;
    enter();
    if (!landed) unread = { from: current?.read_seq ?? 0, to: current?.log.seq ?? 0 };
    setAttribute(log, "aria-label", `Messages with ${name}`);
    setAttribute(log, "aria-busy", current ? String(!current.log.loaded || client.catchUp.isLoadingOlder(current)) : null);
    shown = timeline(current, client.waiting, me, unread);
    const anchor = atEnd ? null : anchorRow();
    rows.show(shown);
    showBeginning(name);
    showTyping();
    if (!landed && (current === undefined || current.log.loaded)) land();
    else if (atEnd) toEnd();
    else if (anchor) scroller.scrollTop += anchor.row.getBoundingClientRect().top - anchor.top;
    makeOneFocusable();
    markSeen();
    if (scroller.scrollTop < NEAR_TOP_PX) loadOlder();
  }

  function enter() {
    // The key stays the same when a draft becomes a conversation.
    const next = client.target === null ? "" : keyOf(client.target);
    if (next === key) return;
    key = next;
    landed = false;
    atEnd = true;
  }

  /** Sets the position when the messages are first shown: the first unread message if it is loaded, else the end. */
  function land() {
    landed = true;
    const line = list.querySelector("li.unread");
    const above = shown.findIndex((row) => row.kind === "unread") > 1;
    if (line && (above || !store.current?.log.older)) line.scrollIntoView({ block: "center" });
    else toEnd();
    measure();
  }

  /** The topmost visible row, which keeps its position while rows above it change. */
  function anchorRow() {
    const top = scroller.getBoundingClientRect().top;
    const row = [...list.children].find((child) => child.getBoundingClientRect().bottom > top);
    return row ? { row, top: row.getBoundingClientRect().top } : null;
  }

  function toEnd() {
    scroller.scrollTop = scroller.scrollHeight;
    measure();
  }

  function measure() {
    atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_END_PX;
    jump.hidden = atEnd;
  }

  function onScroll() {
    measure();
    markSeen();
    if (scroller.scrollTop < NEAR_TOP_PX) loadOlder();
  }

  function loadOlder() {
    const { current } = store;
    if (current && landed && current.log.older && !client.catchUp.isLoadingOlder(current)) void client.catchUp.loadOlder(current);
  }

  function markSeen() {
    if (landed && atEnd && document.visibilityState === "visible" && document.hasFocus()) client.seen();
  }

  /** @param {string} name */
  function showBeginning(name) {
    const { current } = store;
    beginning.hidden = current?.log.older ?? false;
    if (current && !current.log.loaded) setText(beginning, "Loading…");
    else setText(beginning, `This is the beginning of ${current?.kind === "group" ? name : `your conversation with ${name}`}.`);
  }

  function showTyping() {
    const names = [...(store.current?.typing.keys() ?? [])];
    typing.classList.toggle("on", names.length > 0);
    const text = names.length > 0 ? `${listNames(names)} ${names.length === 1 ? "is" : "are"} typing` : "";
    setText(/** @type {Element} */ (typing.lastElementChild), text);
  }

  /** @returns {HTMLElement[]} */
  function messageNodes() {
    return /** @type {HTMLElement[]} */ ([...list.querySelectorAll("li.message")]);
  }

  /** Exactly one message is in the tab order: the one with the focus, else the newest. */
  function makeOneFocusable() {
    if (!list.contains(document.activeElement)) makeFocusable(messageNodes().at(-1));
  }

  /** @param {Element | null | undefined} message */
  function makeFocusable(message) {
    for (const other of list.querySelectorAll("li.message[tabindex='0']")) other.setAttribute("tabindex", "-1");
    message?.setAttribute("tabindex", "0");
  }

  /** @param {FocusEvent} event */
  function onFocus({ target }) {
    makeFocusable(/** @type {Element} */ (target).closest("li.message"));
  }

  /** @param {KeyboardEvent} event */
  function onArrow(event) {
    const nodes = messageNodes();
    const at = nodes.indexOf(/** @type {HTMLElement} */ (event.target));
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: nodes.length - 1 }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (to >= nodes.length) onLeave();
    else nodes[Math.max(0, to)].focus();
  }

  /** @returns {import("../timeline.js").MessageRow | undefined} */
  function lastOwn() {
    const row = shown.findLast((row) => row.kind === "message" && row.mine && row.seq !== null && !row.deleted);
    return row?.kind === "message" ? row : undefined;
  }

  return { node, show, lastOwn };
}
