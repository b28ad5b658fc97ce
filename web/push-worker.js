/**
 * The chat's service worker: shows notifications while no page is open, takes back what was read elsewhere, and opens a
 * conversation on a click. Keeps nothing: what is shown is asked of the browser.
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
 * One after the other: Chromium forgets a notification that is being shown while someone asks what is shown.
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

/** One for each conversation: a later one takes the place of the one before. */
async function show({ conversation_id, up_to_seq, count, title, text = "" }) {
  const body = count > 1 ? [`${count} new messages`, text].filter(Boolean).join("\n") : text || "New message";
  const data = { conversation_id, up_to_seq, count };
  await registration.showNotification(title, { body, tag: conversation_id, renotify: true, icon: "/favicon.svg", data });
}

async function withdraw({ conversation_id, up_to_seq }) {
  const shown = await registration.getNotifications({ tag: conversation_id });
  for (const notification of shown) if (notification.data.up_to_seq <= up_to_seq) notification.close();
}

/** On the application's icon, where there is one: the messages that notifications tell of. */
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
  // Only a person's click allows it.
  await page.focus().catch(() => {});
}
