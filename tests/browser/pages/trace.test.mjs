import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { test } from "node:test";
import { PHONE, scan, shoot, withWorld } from "./support.mjs";

const SECRET = "a secret of at least 32 bytes, for tests";
/** Maximum reloads while waiting for an outcome, more than any push takes. */
const LOOKS_MAX = 200;

const key = (/** @type {string} */ file) => new URL(`../../it/keys/tls-a.${file}.pem`, import.meta.url);
/** Makes the servers trust the application's server below. */
process.env.SSL_CERT_FILE = key("cert").pathname;

const rowOf = (page, user) => page.locator(`li[data-user="${user}"]`);
const saidOf = (row) => row.locator(".steps .said").allTextContents();
const widthOf = (page) => page.evaluate(() => document.documentElement.scrollWidth);

/** Opens the trace of a message from its menu, in a new tab. */
async function traceOf(world, person, text) {
  const opened = person.page.context().waitForEvent("page");
  await person.act(text, "What became of it");
  const page = world.watch(await opened, `${person.name}'s trace`);
  world.windows.push(page);
  await page.getByRole("heading", { name: `from ${person.name}` }).waitFor();
  return page;
}

/** Reloads until the user's outcome is this. */
async function until(page, user, outcome) {
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    await rowOf(page, user).waitFor();
    if ((await rowOf(page, user).locator(".outcome").textContent()) === outcome) return;
    await page.reload();
  }
  assert.fail(`${user}: ${await rowOf(page, user).innerText()}`);
}

test("what became of a message, from its menu: for each recipient, in words and as a time line", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    const carol = await world.person("carol");
    await alice.createGroup("Night operators", ["bob", "carol", "dave"]);
    await alice.say("Evening");
    await bob.open("Night operators");
    await bob.sees("Evening");
    await carol.row("Night operators").locator(".badge", { hasText: "1" }).waitFor();

    const page = await traceOf(world, alice, "Evening");
    await until(page, "bob", "has read it");
    await until(page, "carol", "has it");
    await until(page, "dave", "waits for the next sync");
    await rowOf(page, "dave").getByText("no device was connected").waitFor();
    assert.match(await page.title(), /^Message 2 /);
    assert.match((await page.locator(".stage section .said").allTextContents()).join(), /^announced to .*, the home of 4 members$/);
    const said = await saidOf(rowOf(page, "bob"));
    assert.match(said[0], /^given to session /);
    assert.equal(said.at(-1), "read, up to 2");
    assert.match(await rowOf(page, "bob").locator(".steps time").first().innerText(), /^[+−][\d,.]+ m?s$/);
    // A lane for the session's device, and one for the node's own steps.
    assert.equal(await rowOf(page, "bob").locator(".lane:not(.axis)").count(), 2);
    const places = await rowOf(page, "bob").locator(".track .dot").evaluateAll((dots) => dots.map((dot) => dot.getBoundingClientRect().left));
    const track = await rowOf(page, "bob").locator(".track").first().boundingBox();
    assert.equal(places.length, said.length);
    assert.ok(places.every((left) => track && left >= track.x - 10 && left <= track.x + track.width), "within the scale");

    // The address contains the whole query; another address shows only one recipient.
    await page.getByLabel("Recipient", { exact: true }).fill("carol");
    await page.getByRole("button", { name: "Show", exact: true }).click();
    await page.waitForURL(/user=carol/);
    await page.getByText("1 recipient", { exact: true }).waitFor();
    assert.equal(await rowOf(page, "bob").count(), 0);
    await page.getByLabel("Recipient", { exact: true }).fill("");
    await page.keyboard.press("Enter");
    await page.getByText("3 recipients", { exact: true }).waitFor();
    assert.doesNotMatch(page.url(), /user=/);
    await page.goBack();
    await page.getByText("1 recipient", { exact: true }).waitFor();
  }));

test("the steps of push are shown, with the provider's answer", async () => {
  /** The application's own server: accepts pushes for Bob and refuses those for Carol. */
  const hook = createServer({ key: readFileSync(key("key")), cert: readFileSync(key("cert")) }, (request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => response.writeHead(JSON.parse(body).user_id === "bob" ? 200 : 400).end());
  });
  await new Promise((resolve) => hook.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (hook.address());
  const settings = ["push.hold_ms=100", `push.webhook.url=https://127.0.0.1:${port}/hook`, `push.webhook.secret=${SECRET}`, 'push.allowed_networks=["127.0.0.0/8"]'];
  try {
    await withWorld(async (world) => {
      for (const user of ["bob", "carol"]) {
        const headers = { authorization: `Bearer ${await world.server.token(user)}`, "content-type": "application/json" };
        const answer = await fetch(`${world.server.url}/v1/devices/phone/push`, { method: "PUT", headers, body: JSON.stringify({ provider: "webhook" }) });
        assert.equal(answer.status, 200, await answer.text());
      }
      const alice = await world.person("alice");
      await alice.createGroup("Night operators", ["bob", "carol"]);
      await alice.say("Evening");
      const page = await traceOf(world, alice, "Evening");
      await until(page, "bob", "was notified");
      await until(page, "carol", "was not notified");
      const [held, queued, ...rest] = await saidOf(rowOf(page, "bob"));
      assert.match(held, /^push waits for a receipt until /);
      assert.match(queued, /^queued for webhook, for 1 message, not before /);
      assert.deepEqual(rest, ["webhook has the notification"]);
      await rowOf(page, "carol").locator(".hint", { hasText: "400" }).waitFor();
      assert.equal((await saidOf(rowOf(page, "carol"))).at(-1), "webhook failed: 400; given up");
      await scan(page, "push");
      await shoot(page, "trace-push");
    }, settings);
  } finally {
    hook.close();
  }
});

test("for several nodes it shows which node did what, in one timeline", () =>
  withWorld(async (world) => {
    // The page gets a prepared answer, which router/tests/trace.rs checks against the code: tests with three nodes, Redis and
    // Cassandra are in tests/it.
    const told = JSON.parse(readFileSync(new URL("trace-of-three-nodes.json", import.meta.url), "utf8"));
    const page = await world.window("/trace");
    await page.route(/\/v1\/admin\/conversations\//, (route) => route.fulfill({ json: { data: told } }));
    await page.goto(`${world.server.url}/trace?${new URLSearchParams({ conversation: told.conversation_id, seq: String(told.seq) })}`);
    await page.getByText("3 recipients", { exact: true }).waitFor();

    const lanesOf = (row) => row.locator(".lane:not(.axis) .lane-name").allTextContents();
    assert.deepEqual(await lanesOf(rowOf(page, "bob")), ["n1 · phone", "n3 · laptop", "n2", "n1"]);
    assert.deepEqual(await lanesOf(rowOf(page, "carol")), ["n1", "n3", "n2 · browser-9d1f"]);
    const head = page.locator(".stage section");
    assert.deepEqual(await saidOf(head), ["announced to n1, the home of 2 members", "announced to n3, the home of 2 members"]);
    // Each step shows its place.
    const places = await rowOf(page, "carol").locator(".steps .place").allTextContents();
    assert.deepEqual(places, ["n1", "n1", "n3", "n2 · browser-9d1f"]);
    assert.equal((await saidOf(rowOf(page, "carol"))).at(-1), "web_push has the notification");
    await rowOf(page, "dave").locator(".hint", { hasText: "the device is gone" }).waitFor();
    await scan(page, "three nodes");
    await shoot(page, "trace-three-nodes");
  }));

test("of many recipients the first page is shown, and more on request", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const names = Array.from({ length: 25 }, (_, at) => `operator-${at + 10}`);
    await alice.createGroup("All", names);
    await alice.say("Evening");
    const page = await traceOf(world, alice, "Evening");
    await page.getByText("20 recipients so far", { exact: true }).waitFor();
    const more = page.getByRole("button", { name: "Show more recipients" });
    await more.focus();
    await page.keyboard.press("Enter");
    await page.getByText("25 recipients", { exact: true }).waitFor();
    assert.deepEqual(await page.locator("li[data-user]").evaluateAll((rows) => rows.map((row) => row.getAttribute("data-user"))), names);
    await page.waitForFunction(() => document.activeElement?.textContent?.endsWith("operator-30"));
    await more.waitFor({ state: "hidden" });
  }));

test("errors are shown", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    await alice.chatWith("bob");
    await alice.say("Evening");
    const traced = await traceOf(world, alice, "Evening");
    const address = new URL(traced.url());
    const at = (seq) => `/trace?${new URLSearchParams({ conversation: address.searchParams.get("conversation") ?? "", seq })}`;

    const empty = await world.window("/trace");
    await empty.waitForFunction(() => document.activeElement?.id === "conversation");
    for (const [seq, told] of [["7", "There is no such message."], ["x", "seq: "]]) {
      const page = await world.window(at(seq));
      await page.getByRole("status").filter({ hasText: told }).waitFor();
      await page.getByRole("button", { name: "Try again" }).waitFor({ state: "hidden" });
      assert.equal(await page.getByLabel("Message", { exact: true }).inputValue(), seq);
    }

    // A token that is no longer valid, as after a change of the development key, is replaced.
    await empty.evaluate(() => sessionStorage.setItem("switchboard.trace.token", "of.another.key"));
    await empty.goto(`${world.server.url}${at("1")}`);
    await rowOf(empty, "bob").waitFor();

    // While the server is unreachable, the user can try again.
    const page = await world.window(at("1"));
    await rowOf(page, "bob").waitFor();
    await page.route(/\/v1\/admin\//, (route) => route.abort("connectionrefused"));
    await page.reload();
    await page.getByRole("status").filter({ hasText: "The server can't be reached." }).waitFor();
    await page.unroute(/\/v1\/admin\//);
    await page.getByRole("button", { name: "Try again" }).click();
    await rowOf(page, "bob").waitFor();
    await page.getByText("The server can't be reached.").waitFor({ state: "hidden" });
  }));

test("with a configured key it asks for a token, and says what that may not see", () =>
  withWorld(async (world) => {
    const page = await world.window("/trace?conversation=d:1&seq=1");
    const give = async (token) => {
      await page.getByLabel("Token", { exact: true }).fill(token);
      await page.keyboard.press("Enter");
    };
    await page.getByText("This server wants to know who is asking.").waitFor();
    await scan(page, "token");
    await give("");
    await page.getByText("Paste a token.").waitFor();
    await give("nonsense");
    await page.getByText("The token is not valid").waitFor();
    await give(await world.server.token("root", "1h", ["operator"]));
    await page.getByText("it needs the scope admin").waitFor();
    await give(await world.server.token("root", "1h", ["admin"]));
    await page.getByText("There is no such message.").waitFor();
    // The token is kept as long as the tab.
    await page.reload();
    await page.getByText("There is no such message.").waitFor();
  }, [`auth.hs256_secret=${SECRET}`]));

test("by keyboard, on a phone and in the dark: no sideways scrolling, no violations found by axe", () =>
  withWorld(async (world) => {
    const long = "x".repeat(128);
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.createGroup("Night operators", ["bob", "carol", long]);
    await alice.say("Evening");
    await bob.open("Night operators");
    await bob.sees("Evening");
    await alice.message("Evening").focus();
    const opened = alice.page.context().waitForEvent("page");
    await alice.page.keyboard.press("Enter");
    await alice.page.getByRole("menuitem", { name: "What became of it" }).focus();
    await alice.page.keyboard.press("Enter");
    const light = world.watch(await opened, "light");
    await until(light, "bob", "has read it");
    await scan(light, "light");
    await shoot(light, "trace-light");

    const address = light.url().slice(world.server.url.length);
    const dark = await world.window(address, { colorScheme: "dark", viewport: { width: 1400, height: 800 } });
    const phone = await world.window(address, { viewport: PHONE, hasTouch: true, isMobile: true });
    for (const page of [dark, phone]) await rowOf(page, "bob").waitFor();
    assert.equal(await widthOf(phone), PHONE.width, "nothing to scroll sideways");
    await scan(dark, "dark");
    await scan(phone, "phone");
    await shoot(dark, "trace-dark");
    await shoot(phone, "trace-phone");
  }));
