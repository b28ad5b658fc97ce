import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE, scan, shoot, withWorld } from "./support.mjs";

test("at phone width there is the list or the conversation, and a way between them", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice", { viewport: PHONE, hasTouch: true, isMobile: true });
    const bob = await world.person("bob");
    const list = alice.page.getByRole("complementary", { name: "Conversations" });
    await shoot(alice.page, "phone-empty");
    await alice.chatWith("bob");
    await list.waitFor({ state: "hidden" });
    await alice.say("From the phone, with a message that is long enough to need a second line.");
    await bob.open("alice");
    await bob.say("It fits.");
    await alice.sees("It fits.");
    const width = await alice.page.evaluate(() => document.documentElement.scrollWidth);
    assert.equal(width, PHONE.width, "nothing to scroll sideways");
    await shoot(alice.page, "phone-conversation");
    await alice.page.getByRole("link", { name: "Back to the conversations" }).tap();
    await list.waitFor();
    await alice.title.waitFor({ state: "hidden" });
    await bob.say("And unread.");
    await alice.row("bob").locator(".badge", { hasText: "1" }).waitFor();
    await shoot(alice.page, "phone-list");
    await alice.row("bob").tap();
    await alice.sees("And unread.");
    await alice.page.goBack();
    await list.waitFor();
  }));

test("everything can be done with the keyboard", () =>
  withWorld(async (world) => {
    const bob = await world.person("bob");
    const page = world.watch(await world.browser.newPage(), "alice");
    const { keyboard } = page;
    const focused = (selector) => page.waitForFunction((css) => document.activeElement?.matches(css), selector);
    await page.goto(world.server.url);
    await focused("#name");
    await keyboard.type("alice");
    await keyboard.press("Enter");
    await focused("#finder");
    await keyboard.type("bob");
    await keyboard.press("Enter");
    await focused("#composer-text");
    await keyboard.type("Hello bob");
    await keyboard.press("Enter");
    await bob.open("alice");
    await bob.say("Hello alice");
    await page.getByText("Hello alice", { exact: true }).last().waitFor();

    // Edits the newest own message; Esc cancels.
    await keyboard.press("ArrowUp");
    await page.getByText("Editing a message").waitFor();
    await keyboard.press("Escape");
    await page.getByText("Editing a message").waitFor({ state: "hidden" });
    await keyboard.press("ArrowUp");
    await keyboard.press("End");
    await keyboard.type("!");
    await keyboard.press("Enter");
    await bob.sees("Hello bob!");

    // Moves up and down in the messages, and reacts from the menu.
    await keyboard.press("Shift+Tab");
    await focused("li.message.theirs");
    await keyboard.press("ArrowUp");
    await focused("li.message.mine");
    await keyboard.press("ArrowDown");
    await focused("li.message.theirs");
    await keyboard.press("Enter");
    await focused("[role=menuitem]");
    await keyboard.press("Enter");
    await page.getByRole("menu", { name: "React with" }).waitFor();
    await keyboard.press("ArrowRight");
    await keyboard.press("Enter");
    await bob.message("Hello alice").getByRole("button", { name: "❤️ 1" }).waitFor();
    await focused("li.message.theirs");
    await keyboard.press("Escape");
    await focused("#composer-text");

    // The list with the arrow keys; the group dialog, which restores the focus.
    await page.locator("#finder").focus();
    await keyboard.press("ArrowDown");
    await focused("a.row");
    await keyboard.press("ArrowUp");
    await focused("#finder");
    await keyboard.press("Tab");
    await focused("button[aria-label='New group']");
    await keyboard.press("Enter");
    await focused("#group-title");
    await keyboard.press("Escape");
    await focused("button[aria-label='New group']");

    // The own status: radio items in a menu.
    await page.locator(".profile").focus();
    await keyboard.press("Enter");
    await focused("[role=menuitemradio][aria-checked=true]");
    await keyboard.press("ArrowDown");
    await keyboard.press("Enter");
    await focused(".profile");
    await bob.line.getByText("Away").waitFor();
  }));

test("axe finds no violations, in light and dark, wide and narrow", () =>
  withWorld(async (world) => {
    const door = world.watch(await world.browser.newPage(), "door");
    await door.goto(world.server.url);
    await scan(door, "sign-in");
    await shoot(door, "sign-in");
    const alice = await world.person("alice");
    const bob = await world.person("bob", { colorScheme: "dark" });
    const carol = await world.person("carol", { viewport: PHONE });
    await scan(alice.page, "empty");
    await alice.createGroup("Night operators", ["bob", "carol"]);
    await alice.say("Evening. @bob, is board 2 quiet?");
    await bob.open("Night operators");
    await bob.say("Quiet as a switched-off lamp.");
    await carol.open("Night operators");
    await carol.say("Mine rings all the time: https://example.org/board");
    await alice.sees("Quiet as a switched-off lamp.");
    await alice.react("Quiet as a switched-off lamp.", "Applause");
    await bob.message("Quiet as a switched-off lamp.").getByRole("button", { name: "👏 1" }).waitFor();
    await bob.chatWith("dave");
    await bob.say("Are you up?");
    await carol.say("@bob come and see");
    await bob.row("Night operators").locator(".badge", { hasText: "@1" }).waitFor();
    await scan(alice.page, "light");
    await scan(bob.page, "dark");
    await scan(carol.page, "phone");
    await alice.page.getByRole("button", { name: "Group details" }).click();
    await scan(alice.page, "dialog");
    await alice.page.keyboard.press("Escape");
    await alice.page.locator(".profile").click();
    await scan(alice.page, "menu");
    await alice.page.keyboard.press("Escape");
    await world.server.end("SIGKILL");
    await alice.banner.getByText("Reconnecting").waitFor();
    await scan(alice.page, "banner");
    await carol.banner.getByText("Reconnecting").waitFor();
    const button = await carol.banner.getByRole("button", { name: "Try now" }).boundingBox();
    assert.ok(button && button.height < 40, "the button's label stays on one line on a phone");
    assert.equal(await carol.line.textContent(), "3 members", "without a connection, nobody's presence is known");
    await bob.banner.getByText("Reconnecting").waitFor();
    await scan(bob.page, "banner, dark");
  }));

test("new messages are announced, one's own are not", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("Hello");
    await bob.open("alice");
    await bob.say("Good evening");
    const announcer = alice.page.locator("#announcer[aria-live=polite]");
    await announcer.getByText("bob: Good evening").waitFor({ state: "attached" });
    await alice.say("And to you");
    assert.equal(await announcer.textContent(), "bob: Good evening");
    await alice.page.getByRole("log", { name: "Messages with bob" }).waitFor();
  }));
