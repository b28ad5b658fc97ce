/**
 * Notifications while the chat is closed. Headless Chromium has no push service, so the subscription is faked, and pushes are
 * dispatched to the service worker as events. Everything else is real: from the button to the server's answer, and from the
 * event to the notification.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { withWorld } from "./support.mjs";

const KEY = fileURLToPath(new URL("../../it/keys/tls-a.key.pem", import.meta.url));
const SETTINGS = [`push.web_push.vapid_key_file=${KEY}`, "push.web_push.subject=mailto:ops@example.com"];

/** The faked subscription: the receiver of RFC 8291, appendix A. */
const SUBSCRIPTION = {
  endpoint: "https://push.example.com/send/1",
  keys: {
    p256dh: "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    auth: "BTBZMqHH6r4Tts7J_aSIgg",
  },
};

/** Bob, who has allowed notifications, and his page's requests about them. `key` null: the page gets no key from the server. */
async function bob(world, key) {
  const asked = [];
  let told;
  const person = await world.person("bob", {
    prepare: async (context) => {
      if (key === null) await context.route(/\/web-push-key$/, (route) => route.fulfill({ json: { data: { key } } }));
      await context.grantPermissions(["notifications"], { origin: world.server.url });
      await context.addInitScript((subscription) => {
        PushManager.prototype.subscribe = async ({ applicationServerKey }) => {
          if (applicationServerKey.length !== 87) throw new Error(`not a key: ${applicationServerKey}`);
          return { toJSON: () => subscription };
        };
      }, SUBSCRIPTION);
      told = context.waitForEvent("response", (response) => response.url().endsWith("/web-push-key"));
      context.on("response", async (response) => {
        const request = response.request();
        if (/\/v1\/.*push/.test(request.url())) asked.push(`${request.method()} ${new URL(request.url()).pathname.replace(/devices\/[^/]+/, "devices/*")} ${response.status()}`);
      });
    },
  });
  await told;
  return { person, asked };
}

async function choose(person, label) {
  await person.page.locator(".profile").click();
  await person.page.getByRole("menuitem", { name: label }).click();
}

/** Waits until the menu offers this. */
async function offered(person, label) {
  for (;;) {
    await person.page.locator(".profile").click();
    const isThere = await person.page.getByRole("menuitem", { name: label }).isVisible();
    await person.page.keyboard.press("Escape");
    if (isThere) return;
  }
}

/** Has the page's service worker handle a push completely, like the browser. */
async function deliver(person, push) {
  await handled(person, (text) => new PushEvent("push", { data: text }), JSON.stringify(push));
}

/** Has it handle a click on the notification of a conversation. */
async function click(person, tag) {
  const make = async (tag) => {
    const [notification] = await self.registration.getNotifications({ tag });
    return new NotificationEvent("notificationclick", { notification });
  };
  await handled(person, make, tag);
}

/**
 * DevTools could dispatch a push too, but does not report when its notification is shown; and asking for the shown
 * notifications before that would remove it, because Chromium drops what the platform does not show yet.
 */
async function handled(person, make, about) {
  await person.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  const [worker] = person.page.context().serviceWorkers();
  const inWorker = async ([make, about]) => {
    const event = await (0, eval)(make)(about);
    const ends = [];
    event.waitUntil = (end) => ends.push(end);
    self.dispatchEvent(event);
    await Promise.all(ends);
  };
  await worker.evaluate(inWorker, [make.toString(), about]);
}

/** Records the number on the application's icon from now on. Headless Chromium has no icon. */
async function noteBadge(person) {
  await person.page.evaluate(() => navigator.serviceWorker.ready.then(() => undefined));
  const [worker] = person.page.context().serviceWorkers();
  await worker.evaluate(() => {
    navigator.setAppBadge = async (count) => void (self.badge = count);
    navigator.clearAppBadge = async () => void (self.badge = 0);
  });
  return () => worker.evaluate(() => self.badge);
}

async function shown(person) {
  return person.page.evaluate(async () => {
    const all = await (await navigator.serviceWorker.ready).getNotifications();
    return all.map(({ title, body, tag }) => ({ title, body, tag }));
  });
}

test("a browser is registered and shows, replaces, opens and withdraws notifications", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    await alice.chatWith("bob");
    await alice.say("hi");
    const { person, asked } = await bob(world);
    await offered(person, "Notify me when this is closed");
    await choose(person, "Notify me when this is closed");
    await offered(person, "Stop notifications");
    assert.deepEqual(asked, ["GET /v1/push/web-push-key 200", "PUT /v1/devices/*/push 200"]);

    const conversation_id = decodeURIComponent((await person.row("alice").getAttribute("href")).split("/").at(-1));
    const told = { type: "notification", conversation_id, title: "alice" };
    const badge = await noteBadge(person);
    await deliver(person, { ...told, up_to_seq: 1, count: 2, text: "hi" });
    assert.deepEqual(await shown(person), [{ title: "alice", body: "2 new messages\nhi", tag: conversation_id }]);
    const team = { ...told, title: "Team", count: 1 };
    await Promise.all([deliver(person, { ...team, conversation_id: "g:2", up_to_seq: 9 }), deliver(person, { ...team, conversation_id: "g:3", up_to_seq: 1 })]);
    await deliver(person, { type: "withdrawal", conversation_id: "g:3", up_to_seq: 1 });
    assert.equal((await shown(person)).find(({ tag }) => tag === "g:2")?.body, "New message");

    assert.equal(await badge(), 3, "the messages of both notifications");
    await click(person, conversation_id);
    await person.title.getByText("alice", { exact: true }).waitFor();
    assert.deepEqual((await shown(person)).map(({ tag }) => tag), ["g:2"], "the clicked notification is closed");

    await deliver(person, { type: "withdrawal", conversation_id: "g:2", up_to_seq: 9 });
    assert.deepEqual(await shown(person), []);
    assert.equal(await badge(), 0);

    await choose(person, "Stop notifications");
    await offered(person, "Notify me when this is closed");
    assert.equal(asked.at(-1), "DELETE /v1/devices/*/push 200");
  }, SETTINGS));

test("in development mode they are offered without setting anything up", () =>
  withWorld(async (world) => {
    const { person, asked } = await bob(world);
    await choose(person, "Notify me when this is closed");
    await offered(person, "Stop notifications");
    assert.deepEqual(asked, ["GET /v1/push/web-push-key 200", "PUT /v1/devices/*/push 200"]);
  }));

test("where the server sends none, none are offered", () =>
  withWorld(async (world) => {
    // The page is given no key, because a server in development mode always has one.
    const { person } = await bob(world, null);
    await person.page.locator(".profile").click();
    await person.page.getByRole("menuitem", { name: "Sign out" }).waitFor();
    assert.equal(await person.page.getByRole("menuitem", { name: /[Nn]otif/ }).count(), 0);
  }));
