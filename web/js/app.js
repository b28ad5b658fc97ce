/** The page's entry point: sign-in or chat, and the conversation in view in the location bar. */
import { Client } from "./client.js";
import { byId } from "./dom.js";
import { Push } from "./push.js";
import { currentSession } from "./session.js";
import { nameOf } from "./store.js";
import { showConversation } from "./views/conversation.js";
import { showSidebar } from "./views/sidebar.js";
import { showSignIn } from "./views/signin.js";
import { announceMessages, showConnection, showTitle, toast } from "./views/status.js";

const routes = {
  conversation: (/** @type {string} */ id) => `#/c/${encodeURIComponent(id)}`,
  draft: (/** @type {string} */ peer) => `#/to/${encodeURIComponent(peer)}`,
  go: (/** @type {string} */ hash) => void (location.hash = hash),
};

/** @returns {import("./store.js").Store["selected"]} */
function route() {
  const [, kind, name = ""] = location.hash.split("/");
  if (kind === "c") return { kind: "conversation", id: decodeURIComponent(name) };
  if (kind === "to") return { kind: "draft", peer: decodeURIComponent(name) };
  return { kind: "none" };
}

/** @param {import("./session.js").Session} session */
function openChat({ user_id }) {
  const client = new Client(user_id, {
    onMessages: announceMessages,
    onRemoved: (conversation) => toast(`You are no longer a member of ${nameOf(conversation)}.`),
  });
  byId("chat").hidden = false;
  showConnection(client);
  showTitle(client);
  const push = new Push(user_id, {
    token: () => currentSession()?.token ?? "",
    open: (id) => routes.go(routes.conversation(id)),
  });
  showSidebar(client, routes, push);
  const view = showConversation(client);

  const follow = () => {
    const left = client.store.current;
    client.catchUp.select(route());
    // The focus target exists only once the view has been drawn.
    requestAnimationFrame(() => requestAnimationFrame(() => moveFocus(client, view, left)));
  };
  addEventListener("hashchange", follow);
  addEventListener("online", () => client.connection.retryNow());
  follow();
  client.start();
  // The token is valid by now. If this fails, the chat works without notifications.
  onceOnline(client, () => push.start().catch(() => {}));
}

/**
 * @param {Client} client
 * @param {() => void} then
 */
function onceOnline({ store }, then) {
  let isDue = true;
  store.onChange(() => {
    if (!isDue || store.connection.phase !== "online") return;
    isDue = false;
    then();
  });
}

/**
 * Moves the focus into the chosen conversation, or back to its line in the list.
 * @param {Client} client
 * @param {{focus: () => void}} view
 * @param {import("./store.js").Conversation | undefined} left
 */
function moveFocus({ store }, view, left) {
  if (store.selected.kind !== "none") return view.focus();
  const lines = [...document.querySelectorAll("a.row")].filter((line) => line instanceof HTMLElement);
  const line = left && lines.find((line) => line.getAttribute("href") === routes.conversation(left.id));
  // On a phone the field would bring up the keyboard.
  if (line) line.focus();
  else if (!matchMedia("(pointer: coarse)").matches) byId("finder").focus();
}

const session = currentSession();
if (session) openChat(session);
else showSignIn(openChat);
