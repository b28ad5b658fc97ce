/** The left pane: the user, a field to find or start a chat, and the conversations. */
import { byId, fill, h, Rows, setAttribute, setText } from "../dom.js";
import { signOut } from "../session.js";
import { nameOf } from "../store.js";
import { isName, listNames, shortTime } from "../text.js";
import { avatar, STATUS_NAMES } from "./avatar.js";
import { openNewGroup } from "./dialogs.js";
import { icon, mark } from "./icons.js";
import { openMenu } from "./menu.js";
import { orToast, toast } from "./status.js";

/** @typedef {import("../store.js").Conversation} Conversation */

/** @type {import("../types.js").Status[]} */
const CHOOSABLE = ["online", "away", "busy", "invisible"];

/**
 * @param {import("../client.js").Client} client
 * @param {{conversation: (id: string) => string, draft: (peer: string) => string, go: (hash: string) => void}} routes
 * @param {import("../push.js").Push} push
 */
export function showSidebar(client, routes, push) {
  const { store } = client;
  const profile = profileButton(client, push);
  const search = h("input", {
    ...{ id: "finder", type: "search", autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 128 },
    ...{ placeholder: "Find or start a chat", on: { input: () => show() } },
  });
  const newGroup = () => openNewGroup(client, ({ id }) => routes.go(routes.conversation(id)));
  const group = h("button", { type: "button", class: "icon-button", "aria-label": "New group", title: "New group", on: { click: newGroup } }, icon("addGroup"));
  const start = h("a", { class: "row start", href: "#/" }, h("span", { class: "avatar", "aria-hidden": "true" }, icon("plus")), h("span", {}));
  const list = h("ul", { class: "list" });
  const empty = h("p", { class: "empty hint" });
  const rows = new Rows(list, (/** @type {Shown} */ { conversation }) => conversation.id, () => conversationRow(routes));
  const finder = h("form", { class: "finder", role: "search", on: { submit: onSubmit } }, h("label", { for: "finder", class: "visually-hidden" }, "Find a conversation, or start one by name"), icon("search"), search, group);
  const nav = h("nav", { "aria-label": "Conversation list", on: { keydown: onArrow } }, start, list, empty);
  fill(byId("sidebar"), h("header", { class: "sidebar-head" }, mark(), h("h1", {}, "Switchboard"), profile.node), finder, nav);
  search.addEventListener("keydown", onArrow);

  const show = () => {
    profile.show();
    const text = search.value.trim();
    const found = store.list.filter((conversation) => nameOf(conversation).toLowerCase().includes(text.toLowerCase()));
    rows.show(found.map((conversation) => shown(client, conversation)));
    start.hidden = !canStart(text);
    setText(/** @type {Element} */ (start.lastElementChild), `Start a chat with ${text}`);
    setAttribute(start, "href", routes.draft(text));
    showEmpty(found.length === 0 && start.hidden);
  };
  store.onChange(show);
  show();

  /** @param {string} text */
  function canStart(text) {
    return isName(text) && text !== store.me && !store.directWith(text);
  }

  /** @param {boolean} visible */
  function showEmpty(visible) {
    empty.hidden = !visible || !store.listed;
    if (empty.hidden || empty.dataset.for === search.value) return;
    empty.dataset.for = search.value;
    const other = store.me === "bob" ? "alice" : "bob";
    const second = h("a", { href: `/?name=${other}`, target: "_blank", rel: "noopener" }, `a second window as ${other}`);
    fill(empty, ...(search.value ? ["Nothing by that name."] : ["No conversations yet. Type a name above, or open ", second, "."]));
  }

  /** @param {SubmitEvent} event */
  function onSubmit(event) {
    event.preventDefault();
    const text = search.value.trim();
    const direct = store.directWith(text);
    const first = /** @type {HTMLAnchorElement | null} */ (list.querySelector("a"));
    if (direct) routes.go(routes.conversation(direct.id));
    else if (canStart(text)) routes.go(routes.draft(text));
    else if (first) routes.go(/** @type {string} */ (first.getAttribute("href")));
    else return;
    search.value = "";
    show();
  }

  /** @param {KeyboardEvent} event */
  function onArrow(event) {
    const links = /** @type {HTMLElement[]} */ ([...nav.querySelectorAll("a.row:not([hidden])")]);
    const at = links.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
    if (event.key === "Escape" && document.activeElement === search) {
      search.value = "";
      show();
    }
    if (to === undefined || (document.activeElement === search && event.key !== "ArrowDown")) return;
    event.preventDefault();
    (to < 0 ? search : links[Math.min(to, links.length - 1)])?.focus();
  }
}

/**
 * @param {import("../client.js").Client} client
 * @param {import("../push.js").Push} push
 */
function profileButton(client, push) {
  const { store } = client;
  const face = avatar(store.me, { status: store.status });
  const status = h("span", { class: "meta" });
  const choices = () => [
    ...CHOOSABLE.map((choice) => ({
      label: STATUS_NAMES[choice],
      content: h("span", { class: "status-choice" }, h("span", { class: `lamp ${choice}` }), STATUS_NAMES[choice]),
      checked: store.status === choice,
      choose: () => client.presence.set(choice),
    })),
    ...pushChoices(push),
    { label: "Live dashboards", choose: () => location.assign("/dashboard") },
    {
      label: "Sign out",
      choose: async () => {
        // The next user of this browser may be somebody else.
        if (push.state === "on") await orToast(push.disable());
        signOut();
        location.assign("/");
      },
    },
  ];
  const node = h(
    "button",
    {
      ...{ type: "button", class: "profile", "aria-haspopup": "menu", "aria-expanded": "false" },
      on: { click: () => openMenu(node, "Your status", choices()) },
    },
    h("span", { class: "profile-text" }, h("span", { class: "profile-name" }, store.me), status),
    face,
  );
  const show = () => {
    const there = store.connection.phase === "online" ? store.status : "offline";
    setText(status, STATUS_NAMES[there]);
    face.lastElementChild?.setAttribute("class", `lamp ${there}`);
  };
  return { node, show };
}

/**
 * @param {import("../push.js").Push} push
 * @returns {import("./menu.js").Choice[]}
 */
function pushChoices(push) {
  switch (push.state) {
    case "on":
      return [{ label: "Stop notifications", choose: () => orToast(push.disable()) }];
    case "off":
      return [{ label: "Notify me when this is closed", choose: () => orToast(push.enable()) }];
    case "blocked":
      return [{ label: "Notifications are blocked", choose: () => toast("Allow notifications for this page in the browser's settings.") }];
    default:
      return [];
  }
}

/**
 * @typedef {object} Shown
 * @property {Conversation} conversation
 * @property {string} name
 * @property {import("../types.js").Status | undefined} status
 * @property {string} preview
 * @property {boolean} typing
 * @property {string} time
 * @property {number} unread
 * @property {boolean} mentioned
 * @property {boolean} current
 */

/**
 * @param {import("../client.js").Client} client
 * @param {Conversation} conversation
 * @returns {Shown}
 */
function shown({ store }, conversation) {
  const { kind, peer, last_message, unread, mentioned_seq, read_seq, typing } = conversation;
  const typists = [...typing.keys()];
  const typingText = kind === "direct" ? "typing…" : `${listNames(typists)} typing…`;
  return {
    conversation,
    name: nameOf(conversation),
    status: peer === undefined ? undefined : (store.presence.get(peer)?.status ?? "offline"),
    preview: typists.length > 0 ? typingText : previewOf(conversation, store.me),
    typing: typists.length > 0,
    time: last_message ? shortTime(last_message.timestamp) : "",
    unread,
    mentioned: unread > 0 && mentioned_seq > read_seq,
    current: store.current === conversation,
  };
}

/** @param {Conversation} conversation @param {string} me */
function previewOf({ kind, last_message }, me) {
  if (!last_message) return "No messages yet";
  const { from, text } = last_message;
  const sender = from === me ? "You: " : kind === "group" ? `${from}: ` : "";
  return sender + (text || "Message deleted");
}

/** @param {{conversation: (id: string) => string}} routes */
function conversationRow(routes) {
  const face = h("span", { class: "face" });
  const name = h("span", { class: "row-name" });
  const presence = h("span", { class: "visually-hidden" });
  const time = h("span", { class: "meta" });
  const preview = h("span", { class: "preview" });
  const badge = h("span", { class: "badge" });
  const badgeWords = h("span", { class: "visually-hidden" });
  const link = h("a", { class: "row" }, face, h("span", { class: "row-top" }, name, presence, time), h("span", { class: "row-bottom" }, preview, badge, badgeWords));
  const node = h("li", {}, link);
  /** @param {Shown} shown */
  const update = (shown) => {
    const { conversation, status, unread, mentioned } = shown;
    setAttribute(link, "href", routes.conversation(conversation.id));
    setAttribute(link, "aria-current", shown.current ? "true" : null);
    setAttribute(link, "data-conversation", shown.name);
    link.classList.toggle("unread", unread > 0);
    showFace(face, shown.name, status);
    setText(name, shown.name);
    setText(presence, status ? `, ${STATUS_NAMES[status]}` : "");
    setText(time, shown.time);
    setText(preview, shown.preview);
    preview.classList.toggle("typing", shown.typing);
    badge.hidden = unread === 0;
    setText(badge, `${mentioned ? "@" : ""}${unread > 99 ? "99+" : unread}`);
    setText(badgeWords, unread > 0 ? ` unread${mentioned ? ", you are mentioned" : ""}` : "");
  };
  return { node, update };
}

/**
 * @param {HTMLElement} face
 * @param {string} name
 * @param {import("../types.js").Status | undefined} status undefined for a group
 */
export function showFace(face, name, status) {
  const key = `${name} ${status ?? "group"}`;
  if (face.dataset.key === key) return;
  face.dataset.key = key;
  fill(face, avatar(name, { status, group: status === undefined }));
}
