import assert from "node:assert/strict";
import { test } from "node:test";
import { seed, shoot, withWorld } from "./support.mjs";

test("two people pick names and chat, both ways", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const bob = await world.person("bob", { colorScheme: "dark" });
    await alice.chatWith("bob");
    await alice.say("Hello, bob!");
    await bob.open("alice");
    await bob.sees("Hello, bob!");
    await bob.say("Hello, alice. <b>Not bold</b> & https://example.org/");
    await alice.sees("Hello, alice. <b>Not bold</b> & https://example.org/");
    assert.equal(await alice.page.locator(".text b").count(), 0);
    await shoot(alice.page, "direct-light");
    await shoot(bob.page, "direct-dark");
  }));

test("typing is shown while it lasts", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("Hello");
    await bob.open("alice");
    let isShown = false;
    const places = [alice.page.getByText("bob is typing"), alice.row("bob").getByText("typing…")];
    const shown = Promise.all(places.map((place) => place.waitFor())).finally(() => (isShown = true));
    while (!isShown) await bob.composer.pressSequentially("I am ");
    await shown;
    await bob.composer.fill("");
    await alice.page.locator(".typing-line:not(.on)").waitFor({ state: "attached" });
  }));

test("presence follows the chosen status, and being gone", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.line.getByText("Online").waitFor();
    await bob.setStatus("Busy");
    await alice.line.getByText("Busy").waitFor();
    await bob.setStatus("Invisible");
    await alice.line.getByText(/Offline|Last seen/).waitFor();
    await bob.setStatus("Away");
    await alice.line.getByText("Away").waitFor();
    await bob.page.close();
    await alice.line.getByText(/Offline|Last seen/).waitFor();
  }));

test("a message is sent, then delivered, then read; the list counts what is unread", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    await alice.chatWith("bob");
    await alice.say("one");
    await alice.say("two");
    await alice.sent("two", "Sent");
    const bob = await world.person("bob");
    await bob.row("alice").locator(".badge", { hasText: "2" }).waitFor();
    assert.match(await bob.page.title(), /^\(2\) /);
    await alice.sent("two", "Delivered");
    await bob.open("alice");
    await alice.sent("one", "Read");
    await alice.sent("two", "Read");
    await bob.row("alice").locator(".badge").waitFor({ state: "hidden" });
    await bob.page.waitForFunction(() => !document.title.startsWith("("));
  }));

test("messages are edited, reacted to and deleted, in both windows", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("Helo");
    await bob.open("alice");
    await alice.act("Helo", "Edit");
    await alice.write("Hello");
    await bob.sees("Hello");
    await bob.message("Hello").getByText("edited").waitFor();
    await bob.react("Hello", "Heart");
    await alice.message("Hello").getByRole("button", { name: "❤️ 1", exact: true }).click();
    await bob.message("Hello").getByRole("button", { name: "❤️ 2, with yours" }).click();
    await alice.message("Hello").getByRole("button", { name: "❤️ 1, with yours" }).waitFor();
    await alice.act("Hello", "Delete");
    await alice.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await bob.sees("Message deleted");
    await alice.sees("Message deleted");
    await bob.page.reload();
    await bob.sees("Message deleted");
    assert.deepEqual(await bob.texts(), ["Message deleted"]);
  }));

test("a group: members come, are mentioned, see it renamed, and go", () =>
  withWorld(async (world) => {
    const [alice, bob, carol] = [await world.person("alice"), await world.person("bob"), await world.person("carol")];
    await alice.createGroup("Lunch", ["bob"]);
    await alice.say("Who is hungry?");
    await bob.open("Lunch");
    await bob.sees("Who is hungry?");
    await alice.sent("Who is hungry?", "Read by everyone");

    await alice.page.getByRole("button", { name: "Group details" }).click();
    await alice.page.getByLabel("Add members").fill("carol");
    await alice.page.getByRole("button", { name: "Add", exact: true }).click();
    await alice.page.getByRole("dialog").getByText("3 members").waitFor();
    await alice.page.getByLabel("Title").fill("Late lunch");
    await alice.page.getByRole("button", { name: "Save" }).click();
    await bob.title.getByText("Late lunch").waitFor();
    await bob.page.getByText("alice added carol").waitFor();
    await shoot(alice.page, "group-details");
    await alice.page.keyboard.press("Escape");

    await carol.row("Late lunch").waitFor();
    await alice.composer.pressSequentially("Table by the window, @ca");
    await alice.page.getByRole("option", { name: "carol" }).waitFor();
    await alice.page.keyboard.press("Enter");
    await alice.page.keyboard.press("Enter");
    await carol.row("Late lunch").locator(".badge", { hasText: "@1" }).waitFor();
    await carol.open("Late lunch");
    await carol.page.locator(".mention.me", { hasText: "@carol" }).waitFor();
    await carol.sees("Who is hungry?");

    await alice.page.getByRole("button", { name: "Group details" }).click();
    await alice.page.getByRole("button", { name: "Manage carol" }).click();
    await alice.page.getByRole("menuitem", { name: "Remove from group" }).click();
    await carol.page.getByText("You are no longer a member of Late lunch.").waitFor();
    await carol.row("Late lunch").waitFor({ state: "detached" });
    await bob.page.getByText("alice removed carol").waitFor();
  }));

test("older messages come with scrolling up, and nothing jumps", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const texts = Array.from({ length: 90 }, (_, at) => `message ${at + 1}`);
    await seed(alice.page, "bob", "alice", texts);
    await alice.open("bob");
    const list = alice.page.locator(".scroller");
    await alice.sees("message 90");
    assert.equal(await alice.message("message 1").count(), 0);
    const place = await list.evaluate((element) => {
      element.scrollTop = 200;
      const row = [...element.querySelectorAll("li.message")].find((row) => row.getBoundingClientRect().top > 100);
      return { text: row?.querySelector(".text")?.textContent, top: row?.getBoundingClientRect().top };
    });
    await alice.message("message 1").waitFor({ state: "attached" });
    const after = await alice.message(place.text).boundingBox();
    assert.ok(Math.abs(after.y - place.top) < 2, `${place.text} was at ${place.top} and is at ${after.y}`);
    await alice.shows(texts);
    assert.deepEqual(await alice.texts(), texts);
    await list.evaluate((element) => (element.scrollTop = 0));
    await alice.page.getByText("This is the beginning of your conversation with bob.").waitFor();
    await alice.page.getByRole("button", { name: "To the newest message" }).click();
    await alice.message("message 90").waitFor({ state: "visible" });
  }));

test("in a large group the open window gets everything, the others learn that there is something", () =>
  withWorld(
    async (world) => {
      const [alice, bob] = [await world.person("alice"), await world.person("bob")];
      await alice.createGroup("Hall", ["bob", "carol", "dave"]);
      await bob.open("Hall");
      await alice.say("one");
      await bob.sees("one");
      await bob.chatWith("carol");
      await alice.say("two");
      await alice.say("three");
      await bob.row("Hall").locator(".badge", { hasText: "2" }).waitFor();
      await bob.row("Hall").getByText("alice: three").waitFor();
      await bob.open("Hall");
      await bob.shows(["one", "two", "three"]);
      await alice.sent("three", "Read by 1 of 3");
    },
    ["fanout.push_members_max=2"],
  ));

test("the same user in two windows sees one conversation", () =>
  withWorld(async (world) => {
    const [desk, lap, bob] = [await world.person("alice"), await world.person("alice"), await world.person("bob")];
    await desk.chatWith("bob");
    await desk.say("from the desk");
    await lap.open("bob");
    await lap.say("from the lap");
    await desk.shows(["from the desk", "from the lap"]);
    await desk.chatWith("carol");
    await lap.chatWith("carol");
    await bob.open("alice");
    await bob.say("unread in both");
    await desk.row("bob").locator(".badge", { hasText: "1" }).waitFor();
    await lap.open("bob");
    await desk.row("bob").locator(".badge").waitFor({ state: "hidden" });
  }));

test("a duplicated tab takes over, and the first can go on beside it", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const opened = alice.page.waitForEvent("popup");
    await alice.page.evaluate(() => void open("/"));
    const copy = world.watch(await opened, "copy");
    await copy.locator("#banner[data-phase=online]").waitFor({ state: "attached" });
    await alice.page.getByText("This session went on in another tab.").waitFor();
    await alice.page.getByRole("button", { name: "Use here" }).click();
    await alice.online();
    await copy.locator("#banner[data-phase=online]").waitFor({ state: "attached" });
  }));

test("a name that can't be one is refused, in words", () =>
  withWorld(async (world) => {
    const page = world.watch(await world.browser.newPage(), "nobody");
    await page.goto(world.server.url);
    await page.getByLabel("Your name").fill("two words");
    await page.getByRole("button", { name: "Connect" }).click();
    await page.getByRole("alert").getByText("without spaces").waitFor();
    await page.getByLabel("Your name").fill("alice");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Nobody on the line" }).waitFor();
  }));
