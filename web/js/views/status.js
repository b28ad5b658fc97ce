/** Status messages: the connection's banner, toasts, announcements for screen readers, the window's title. */
import { byId, fill, h, setAttribute, setText } from "../dom.js";
import { nameOf } from "../store.js";
import { plural } from "../text.js";

const TOAST_MS = 6_000;
const TICK_MS = 1_000;
/** More messages than this at once are counted instead of read out. */
const READ_OUT_MAX = 3;

/** @param {string} text */
export function toast(text) {
  const note = h("p", { class: "toast" }, text);
  byId("toasts").append(note);
  setTimeout(() => note.remove(), TOAST_MS);
}

/**
 * Awaits a user's action, and shows its error as a toast.
 * @param {Promise<unknown>} action
 */
export async function orToast(action) {
  try {
    await action;
  } catch (error) {
    toast(problemOf(error));
  }
}

/** @param {any} error a RequestError, or a network error */
export function problemOf(error) {
  if (error.code === "disconnected") return "Not connected just now. Try again in a moment.";
  if (error.code === "timeout") return "The server did not answer in time.";
  return error.details?.[0]?.message ?? error.message;
}

/**
 * @param {import("../store.js").Conversation} conversation
 * @param {import("../types.js").Entry[]} messages
 */
export function announceMessages(conversation, messages) {
  const lines =
    messages.length > READ_OUT_MAX
      ? [`${plural(messages.length, "new message")} in ${nameOf(conversation)}`]
      : messages.map(({ from, content }) => `${from}: ${content?.text ?? ""}`);
  fill(byId("announcer"), lines.map((line) => h("p", {}, line)));
}

/** @param {import("../client.js").Client} client */
export function showConnection(client) {
  const banner = byId("banner");
  const text = h("span", {});
  // Hidden from screen readers: announcing the countdown each second would drown everything else.
  const countdown = h("span", { class: "meta", "aria-hidden": "true" });
  const button = h("button", { type: "button", class: "small", on: { click: () => act(client) } });
  const parts = [h("span", { class: "lamp" }), text, countdown, button];
  const show = () => {
    const { phase, code, retry_at } = client.store.connection;
    setAttribute(banner, "data-phase", phase);
    if (phase === "online") return fill(banner);
    if (banner.childElementCount === 0) fill(banner, parts);
    setText(text, describe(client));
    setText(countdown, retry_at === undefined ? "" : `${Math.max(0, Math.ceil((retry_at - Date.now()) / 1_000))} s`);
    setText(button, buttonFor(phase, code));
    button.hidden = button.textContent === "";
  };
  client.store.onChange(show);
  setInterval(show, TICK_MS);
  show();
}

/** @param {import("../client.js").Client} client */
export function showTitle({ store }) {
  store.onChange(() => {
    const { current, selected, unread } = store;
    const name = current ? nameOf(current) : selected.kind === "draft" ? selected.peer : null;
    const title = [name, "Switchboard"].filter(Boolean).join(" · ");
    document.title = unread > 0 ? `(${unread}) ${title}` : title;
  });
}

/** @param {import("../client.js").Client} client */
function describe({ store, outbox }) {
  const { phase, why } = store.connection;
  const waiting = outbox.size > 0 ? ` ${plural(outbox.size, "message")} will be sent then.` : "";
  return phase === "waiting" ? `${why} Reconnecting.${waiting}` : why;
}

/**
 * @param {string} phase
 * @param {number | undefined} code
 */
function buttonFor(phase, code) {
  if (phase === "waiting") return "Try now";
  if (phase !== "stopped") return "";
  return code === 4409 ? "Use here" : "Reload";
}

/** @param {import("../client.js").Client} client */
function act(client) {
  const { phase, code } = client.store.connection;
  if (phase === "waiting") client.connection.retryNow();
  else if (code === 4409) client.useThisTab();
  else location.reload();
}
