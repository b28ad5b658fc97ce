/**
 * The chat's service worker: shows notifications while no page is open, withdraws those that were read elsewhere, and opens a
 * conversation on a click. Stateless: it asks the browser which notifications are shown.
 */
addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("push", (event) => event.waitUntil(inTurn(() => take(event.data.json()))));
addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(Promise.all([open(event.notification.data.conversation_id), showBadge()]));
});

let before = Promise.resolve();

/**
 * Runs the work of one event at a time: Chromium's `getNotifications` drops a notification that the platform does not show yet.
 * @param {() => Promise<void>} work
 */
function inTurn(work) {
  const done = before.then(work);
  before = done.catch(() => undefined);
  return done;
}

/** @param {{type: string}} push what the server sent (docs/protocol.md, "Push") */
async function take(push) {
  if (push.type === "notification") await show(push);
  if (push.type === "withdrawal") await withdraw(push);
  await showBadge();
}

/** Shows one notification per conversation: a later one replaces the earlier one. */
async function show({ conversation_id, up_to_seq, count, title, text = "" }) {
  const body = count > 1 ? [`${count} new messages`, text].filter(Boolean).join("\n") : text || "New message";
  const data = { conversation_id, up_to_seq, count };
  await registration.showNotification(title, { body, tag: conversation_id, renotify: true, icon: "/favicon.svg", data });
}

async function withdraw({ conversation_id, up_to_seq }) {
  const shown = await registration.getNotifications({ tag: conversation_id });
  for (const notification of shown) if (notification.data.up_to_seq <= up_to_seq) notification.close();
}

/** Shows the number of notified messages on the application's icon, if the browser supports it. */
async function showBadge() {
  const shown = await registration.getNotifications();
  const count = shown.reduce((sum, { data }) => sum + data.count, 0);
  await (count > 0 ? navigator.setAppBadge?.(count) : navigator.clearAppBadge?.());
}

/** @param {string} id */
async function open(id) {
  const [page] = await clients.matchAll({ type: "window", includeUncontrolled: true });
  if (!page) return clients.openWindow(`/#/c/${encodeURIComponent(id)}`);
  page.postMessage({ conversation_id: id });
  // The browser allows this only after a click.
  await page.focus().catch(() => {});
}
