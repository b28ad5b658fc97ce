import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE, QUICK_BACK, scan, shoot, Wire, withWorld } from "./support.mjs";

const SECRET = "a secret of at least 32 bytes, for tests";
/** Accepts events up to a minute old, so that a test can fill a chart at once. */
const PATIENT = ["topics.lateness_ms=60000"];
/** PROTOCOL §5: the maximum per request. */
const EVENTS_MAX = 1_000;
const COUNTRIES = ["AT", "BE", "DE", "FR", "GB"];
const STATUSES = ["cancelled", "paid", "pending", "refunded"];

const sale = (value, country, timestamp) => ({ series: "amount", value, timestamp, tags: { country } });

/** One event at this time for each of 20 series. */
function sales(at_ms) {
  const timestamp = new Date(at_ms).toISOString();
  return COUNTRIES.flatMap((country, x) =>
    STATUSES.map((status, y) => ({ series: "amount", value: 20 + 3 * x + 8 * y + 10 * Math.sin(at_ms / 9_000 + x), timestamp, tags: { country, status } })),
  );
}

/** Publishes a minute of events for 20 series. */
async function publishMinute({ server }) {
  const now_ms = Date.now();
  const events = Array.from({ length: 58 }, (_, ago) => sales(now_ms - ago * 1_000)).flat();
  for (let at = 0; at < events.length; at += EVENTS_MAX) await server.publish("orders", events.slice(at, at + EVENTS_MAX));
}

test("events are seen as they come, in windows of a second and of a minute", () =>
  withWorld(async (world) => {
    await world.server.publish("orders", [sale(10, "DE"), sale(20.5, "DE"), sale(7, "FR")]);
    const board = await world.board("#topic=orders&range=300");
    await board.live();
    await board.row("DE", "2", "30.50", "15.25", "10", "20.50");
    await board.row("FR", "1", "7");
    await world.server.publish("orders", [sale(1, "FR"), sale(3, "GB")]);
    await board.row("FR", "2", "8");
    await board.row("GB", "1", "3");
    assert.deepEqual(await board.legend.allTextContents(), ["DE", "FR", "GB"]);

    await board.page.getByLabel("1 min", { exact: true }).first().check({ force: true });
    await board.page.getByRole("heading", { name: "Events in each minute", exact: true }).waitFor();
    await board.row("FR", "2", "8");
    await world.server.publish("orders", [sale(2, "FR")]);
    await board.row("FR", "3", "10");
    assert.match(board.page.url(), /window=1m/);

    // The address contains the whole choice.
    await board.page.getByLabel("Measure").selectOption("Mean");
    await board.page.getByLabel("A line for").selectOption("all together");
    await board.row("all", "6", "43.50");
    const other = await world.board(new URL(board.page.url()).hash);
    await other.row("all", "6", "43.50");
    await other.page.getByRole("heading", { name: "amount: mean in each minute" }).waitFor();
    await board.page.goBack();
    await board.row("DE", "2");
  }));

/** PROTOCOL §3: an answer has at most 1 MiB. */
test("a range for which one answer has no room is shown whole", () =>
  withWorld(async (world) => {
    const now_ms = Date.now();
    const ofTown = (town) => ({ tags, ...sale }) => ({ ...sale, tags: { ...tags, town: `t${town}` } });
    // Of 22 seconds only, so that publishing has more than half a minute before the oldest ones are late.
    const events = Array.from({ length: 550 }, (_, at) => sales(now_ms - (at % 22) * 1_000).map(ofTown(Math.floor(at / 22)))).flat();
    for (let at = 0; at < events.length; at += EVENTS_MAX) await world.server.publish("orders", events.slice(at, at + EVENTS_MAX));
    const board = await world.board("#topic=orders&range=3600&window=1s");
    await board.live();
    for (const country of COUNTRIES) await board.row(country, "2,200");
  }, PATIENT));

test("another topic is chosen by name, and remembered", () =>
  withWorld(async (world) => {
    const board = await world.board("");
    await board.page.getByText("Nothing was published to orders in the last minute.").waitFor();
    await world.server.publish("visits", [{ series: "pages", value: 1 }, { series: "seconds", value: 12, tags: { page: "/" } }]);
    await board.page.getByLabel("Topic", { exact: true }).fill("no such name");
    await board.page.keyboard.press("Enter");
    await board.page.getByText("Letters, digits").waitFor();
    await board.page.getByLabel("Topic", { exact: true }).fill("visits");
    await board.page.keyboard.press("Enter");
    await board.row("no tags", "1", "1");
    await board.page.getByLabel("Series").selectOption("seconds");
    await board.row("/", "1", "12");
    assert.match(await board.page.title(), /^visits/);
    await board.page.goto(`${world.server.url}/dashboard`);
    await board.row("no tags", "1", "1");
    assert.equal(await board.page.getByLabel("Topic", { exact: true }).inputValue(), "visits");
  }));

test("an empty topic has a command that fills it", () =>
  withWorld(async (world) => {
    const board = await world.board("#topic=sales");
    const command = await board.page.locator("pre", { hasText: "curl" }).textContent();
    await shoot(board.page, "dashboard-empty");
    await scan(board.page, "empty topic");
    await board.page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await board.page.getByRole("button", { name: "Copy" }).click();
    await board.page.getByText("Copied.").waitFor();
    assert.equal(await board.page.evaluate(() => navigator.clipboard.readText()), command);
    // Parses the command like a shell.
    const [, token, url, body] = /TOKEN=(\S+)\ncurl -X POST '(.*)' \\\n.*\n {2}-d '(.*)'/.exec(command ?? "") ?? assert.fail(`${command}`);
    const answer = await fetch(url, { method: "POST", headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body });
    assert.equal(answer.status, 202);
    await board.row("DE", "1", "19.90");
  }));

test("paused, it stays as it is, whatever comes; resumed, it has everything", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    await world.server.publish("orders", [sale(1, "DE")]);
    const board = await world.board("#topic=orders&range=300", { wire });
    await board.row("DE", "1");
    await board.hold.click();
    await board.notice.getByText("Paused at").waitFor();
    const told = wire.seen.get("topic_update") ?? 0;
    await world.server.publish("orders", [sale(1, "DE"), sale(1, "FR")]);
    await wire.until("topic_update", told + 1);
    await board.notice.getByText(/\d updates? waiting/).waitFor();
    await board.row("DE", "1");
    // The paused data can be viewed differently.
    await board.page.getByLabel("A line for").selectOption("all together");
    await board.row("all", "1");
    await shoot(board.page, "dashboard-paused");
    await board.hold.click();
    await board.row("all", "3");
    await board.notice.waitFor({ state: "hidden" });
  }));

test("after the server was away it says so, keeps what it had, and begins with what the new one has", () =>
  withWorld(async (world) => {
    await world.server.publish("orders", [sale(1, "DE"), sale(1, "DE")]);
    const board = await world.board("#topic=orders&range=3600");
    await board.row("DE", "2");
    await world.server.end("SIGKILL");
    await board.state.getByText("Reconnecting").waitFor();
    await board.notice.getByText("before the connection broke").waitFor();
    await board.row("DE", "2");
    await shoot(board.page, "dashboard-offline");
    await world.server.start();
    await world.server.publish("orders", [sale(5, "FR")]);
    await board.row("FR", "1", "5");
    await board.live();
    assert.equal(await board.page.locator("tbody tr", { hasText: "DE" }).count(), 0, "windows are kept in memory only");
  }, QUICK_BACK));

test("when a topic's owner changes, the page starts again from the new owner's state", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    await world.server.publish("orders", [sale(1, "DE")]);
    const board = await world.board("#topic=orders&range=300", { wire });
    await board.row("DE", "1");
    const points = [[Math.floor(Date.now() / 1_000) * 1_000, 3, 6, 1, 3, 2, 3, 3]];
    wire.alter = ({ topic, window }) => ({ type: "topic_state", topic, window, version: 1, series: [{ series: "amount", tags: { country: "FR" }, points }] });
    await world.server.publish("orders", [sale(1, "DE")]);
    await board.row("FR", "3", "6");
    assert.equal(await board.page.locator("tbody tr", { hasText: "DE" }).count(), 0);
  }));

test("a watch that fails temporarily is retried", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    let asked = 0;
    const refusal = (id) => ({ type: "error", id, code: "unavailable", message: "not just now", retry_after_ms: 50 });
    wire.alter = (frame) => (frame.type === "topic_state" && ++asked < 3 ? refusal(frame.id) : frame);
    await world.server.publish("orders", [sale(1, "DE")]);
    const board = await world.board("#topic=orders&range=300", { wire });
    await board.row("DE", "1");
    assert.equal(asked, 3);
    await board.notice.waitFor({ state: "hidden" });
  }));

test("20 series at 60 seconds: an update draws, and builds nothing", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    await publishMinute(world);
    const board = await world.board("#topic=orders&split=each&measure=mean", { wire });
    await board.page.locator(".legend button").nth(19).waitFor();
    await board.row("DE · paid");
    await shoot(board.page, "dashboard-20-series");
    await board.page.evaluate(() => {
      const counted = { built: 0, drawn: 0 };
      Object.assign(globalThis, { counted });
      const isElement = (/** @type {Node} */ node) => node.nodeType === Node.ELEMENT_NODE;
      new MutationObserver((changes) => {
        for (const { addedNodes, removedNodes } of changes) counted.built += [...addedNodes, ...removedNodes].filter(isElement).length;
      }).observe(document, { childList: true, subtree: true });
      const { clearRect } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.clearRect = function (...rect) {
        counted.drawn += 1;
        return clearRect.apply(this, rect);
      };
    });
    const told = wire.seen.get("topic_update") ?? 0;
    for (let more = 1; more <= 5; more += 1) {
      await world.server.publish("orders", sales(Date.now()));
      await wire.until("topic_update", told + more);
    }
    await board.page.waitForFunction(() => globalThis.counted.drawn >= 4);
    assert.equal(await board.page.evaluate(() => globalThis.counted.built), 0);
  }, PATIENT));

test("many updates between two frames of the screen are drawn once", () =>
  withWorld(async (world) => {
    await world.server.publish("orders", [sale(1, "DE")]);
    const board = await world.board("#topic=orders&range=300");
    await board.row("DE", "1");
    const drawn = await board.page.evaluate(async () => {
      let count = 0;
      const { clearRect } = CanvasRenderingContext2D.prototype;
      CanvasRenderingContext2D.prototype.clearRect = function (...rect) {
        count += 1;
        return clearRect.apply(this, rect);
      };
      const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
      await frame();
      count = 0;
      // Each click requests a redraw.
      for (let more = 0; more < 50; more += 1) document.querySelector(".legend button")?.dispatchEvent(new MouseEvent("click", { bubbles: true }));
      await frame();
      await frame();
      return count;
    });
    assert.ok(drawn >= 2 && drawn <= 8, `two charts were drawn ${drawn} times`);
  }));

test("a line can be taken away; the pointer shows what was when", () =>
  withWorld(async (world) => {
    await publishMinute(world);
    const board = await world.board("#topic=orders");
    await board.row("DE");
    // Paused, so that the data under the pointer does not move.
    await board.hold.click();
    await board.lines.locator(".u-over").hover();
    const tip = board.lines.locator(".tip li:visible");
    await tip.nth(4).waitFor();
    assert.deepEqual((await tip.locator(".tip-label").allTextContents()).sort(), COUNTRIES);
    await shoot(board.page, "dashboard-tooltip");
    await board.legend.getByText("FR").click();
    await board.page.locator(".legend button[aria-pressed=false]", { hasText: "FR" }).waitFor();
    await board.lines.locator(".u-over").hover();
    await tip.nth(4).waitFor({ state: "hidden" });
    await tip.nth(3).waitFor();
    await board.page.getByRole("button", { name: "Hide all" }).click();
    await board.page.getByRole("button", { name: "Show all" }).click();
    await board.lines.locator(".u-over").hover();
    await tip.nth(4).waitFor();
    await board.row("FR");
  }, PATIENT));

test("everything can be done with the keyboard", () =>
  withWorld(async (world) => {
    await publishMinute(world);
    const board = await world.board("#topic=orders");
    const { page } = board;
    const { keyboard } = page;
    const focused = (selector) => page.waitForFunction((css) => document.activeElement?.matches(css), selector);
    const tabTo = async (selector) => {
      for (let more = 0; more < 40; more += 1) {
        if (await page.evaluate((css) => document.activeElement?.matches(css), selector)) return;
        await keyboard.press("Tab");
      }
      await focused(selector);
    };
    await board.row("DE");
    await tabTo("#topic");
    await tabTo("[name=window]");
    await keyboard.press("ArrowRight");
    await page.getByRole("heading", { name: "Events in each minute", exact: true }).waitFor();
    await keyboard.press("ArrowLeft");
    await page.getByRole("heading", { name: "Events in each second", exact: true }).waitFor();
    await tabTo("[name=range]");
    await keyboard.press("ArrowRight");
    await page.waitForURL(/range=300/);
    await tabTo("#split");
    await tabTo("#hold");
    await keyboard.press("Space");
    await board.notice.getByText("Paused").waitFor();
    await tabTo(".line-tile .chart");
    await keyboard.press("ArrowLeft");
    const spoken = page.locator(".line-tile .chart-frame [aria-live]");
    await spoken.getByText(/^\d\d:\d\d:\d\d: .*DE \d+/).waitFor({ state: "attached" });
    const first = await spoken.textContent();
    await keyboard.press("ArrowLeft");
    await page.waitForFunction((text) => document.querySelector(".line-tile .chart-frame [aria-live]")?.textContent !== text, first);
    await keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelector(".line-tile .chart-frame [aria-live]")?.textContent === "");
    await tabTo(".legend button");
    await keyboard.press("Space");
    await page.locator(".legend button[aria-pressed=false]").waitFor();
    await tabTo("thead th:nth-child(2) button");
    await keyboard.press("Enter");
    await page.locator("thead th[aria-sort=descending]", { hasText: "Events" }).waitFor();
    const ring = await page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.activeElement)).outlineStyle);
    assert.equal(ring, "solid", "the focus is seen");
  }, PATIENT));

test("on a phone and in the dark: no sideways scrolling, no violations found by axe", () =>
  withWorld(async (world) => {
    await publishMinute(world);
    const [light, dark] = [await world.board("#topic=orders&measure=sum"), await world.board("#topic=orders&split=each&measure=mean", { colorScheme: "dark" })];
    const phone = await world.board("#topic=orders&measure=sum", { viewport: PHONE, hasTouch: true, isMobile: true });
    for (const board of [light, dark, phone]) await board.legend.first().waitFor();
    await phone.lines.locator(".u-over").tap();
    await phone.lines.locator(".tip li:visible").first().waitFor();
    const width = await phone.page.evaluate(() => document.documentElement.scrollWidth);
    assert.equal(width, PHONE.width, "nothing to scroll sideways");
    await scan(light.page, "light");
    await scan(dark.page, "dark");
    await scan(phone.page, "phone");
    await shoot(light.page, "dashboard-light");
    await shoot(dark.page, "dashboard-dark");
    await shoot(phone.page, "dashboard-phone");
    // The lines change with the theme, on the canvas too.
    const colour = () => dark.page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.querySelector(".legend .swatch"))).stroke);
    const before = [await colour(), await dark.lines.locator("canvas").screenshot()];
    await dark.page.emulateMedia({ colorScheme: "light" });
    await dark.page.waitForFunction((old) => getComputedStyle(/** @type {Element} */ (document.querySelector(".legend .swatch"))).stroke !== old, before[0]);
    assert.notDeepEqual(await dark.lines.locator("canvas").screenshot(), before[1]);
  }, PATIENT));

test("names of any length fit on a phone", () =>
  withWorld(async (world) => {
    const long = "x".repeat(128);
    const topic = "t".repeat(128);
    await world.server.publish(topic, [{ series: long, value: 1, tags: { one: long, other: long } }]);
    const board = await world.board(`#topic=${topic}&split=each&range=300`, { viewport: PHONE, isMobile: true });
    await board.row(`${long} · ${long}`, "1");
    assert.equal(await board.page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
    await shoot(board.page, "dashboard-long-names");
    await board.page.getByLabel("Topic", { exact: true }).fill("u".repeat(128));
    await board.page.keyboard.press("Enter");
    await board.page.getByText("Nothing was published to u").waitFor();
    assert.equal(await board.page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  }));

test("the nodes' figures, for an operator's first look", () =>
  withWorld(async (world) => {
    const board = await world.board("#view=nodes");
    const tile = board.page.locator("[data-figure=connections]");
    await tile.locator(".figure").getByText("1", { exact: true }).waitFor();
    await world.board("#topic=orders");
    await tile.locator(".figure").getByText("2", { exact: true }).waitFor();
    await board.page.getByText("1 reporting").waitFor();
    const alice = await world.person("alice");
    await alice.chatWith("bob");
    let isOver = false;
    const figures = ["sends", "deliveries", "send_duration_ms", "send_p99_ms"].map((name) => board.page.locator(`[data-figure=${name}] .figure`, { hasText: /[1-9]/ }).waitFor());
    const told = Promise.all(figures).finally(() => (isOver = true));
    // The figures are of the last seconds, so messages are sent until all are shown.
    for (let more = 1; !isOver; more += 1) await alice.say(`hello ${more}`);
    await told;
    await scan(board.page, "nodes");
    await shoot(board.page, "dashboard-nodes");
    await board.page.getByRole("link", { name: "Topic" }).click();
    await board.page.getByText("Nothing was published to orders").waitFor();
    await board.page.getByRole("link", { name: "Nodes" }).click();
    await tile.waitFor();
  }, ["node.id=n1"]));

test("each node has a line and a row, and one that publishes nothing any more is called silent", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    /** Simulates a second node with twice the values. */
    const doubled = ({ series, tags, points }) => ({ series, tags: { node: tags.node.replace("n1", "n2") }, points: points.map(([start_ms, count, ...values]) => [start_ms, count, ...values.map((value) => 2 * value)]) });
    let isTelling = true;
    wire.alter = (frame) => (frame.topic === "$node" && isTelling ? { ...frame, series: [...frame.series, ...frame.series.map(doubled)] } : frame);
    const board = await world.board("#view=nodes", { wire });
    const total = board.page.locator("[data-figure=connections] .figure");
    await board.row("n2", "2");
    await board.row("n1", "1");
    await total.getByText("3", { exact: true }).waitFor();
    await shoot(board.page, "dashboard-two-nodes");
    await board.page.locator(".legend button", { hasText: "n2" }).click();
    await board.page.locator(".legend button[aria-pressed=false]", { hasText: "n2" }).waitFor();
    isTelling = false;
    await board.page.getByText("1 reporting, 1 silent").waitFor();
    await board.page.locator("tbody tr", { hasText: /n2.*silent since \d\d:\d\d:\d\d/ }).waitFor();
    await total.getByText("1", { exact: true }).waitFor();
  }, ["node.id=n1"]));

test("with a configured key it asks for a token, and says what one may not see", () =>
  withWorld(async (world) => {
    const board = await world.board("#view=nodes");
    const field = board.page.getByLabel("Token");
    await field.waitFor();
    await scan(board.page, "token");
    await shoot(board.page, "dashboard-token");
    assert.equal(await board.page.locator("#token-problem").textContent(), "");
    await field.fill("of.another.key");
    await board.page.keyboard.press("Enter");
    await board.page.getByText("The token is not valid").waitFor();
    await field.fill(await world.server.token("alice"));
    await board.page.keyboard.press("Enter");
    await board.notice.getByText("need the scope operator").waitFor();
    await board.page.getByRole("link", { name: "Topic" }).click();
    await board.page.locator("pre", { hasText: "switchboard token --user shop --scope topics:publish" }).waitFor();
    await world.server.publish("orders", [sale(1, "DE")]);
    await board.row("DE", "1");
    await board.page.reload();
    await board.row("DE", "1");
  }, [`auth.hs256_secret=${SECRET}`]));

test("the demo's shop sells", () =>
  withWorld(async (world) => {
    const board = await world.board("");
    for (const country of ["DE", "FR", "GB", "JP", "US"]) await board.row(country);
  }, [], ["--demo"]));
