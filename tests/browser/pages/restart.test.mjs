import assert from "node:assert/strict";
import { test } from "node:test";
import { QUICK_BACK, shoot, Wire, withWorld } from "./support.mjs";

const BURST = 15;

/** @param {string} name */
const burst = (name) => Array.from({ length: BURST }, (_, at) => `${name} ${at + 1}`);

test("kill -9 in the middle of traffic: nothing lost, nothing twice, one order, in both windows", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("start");
    await bob.open("alice");
    const write = async (person) => {
      for (const text of burst(person.name)) await person.write(text);
    };
    const killed = alice.sees("bob 4").then(() => world.server.end("SIGKILL"));
    await Promise.all([write(alice), write(bob), killed]);

    await alice.page.locator("#banner[data-phase=waiting], #banner[data-phase=connecting]").waitFor();
    await alice.write("written while it was dead");
    await alice.composer.fill("half a thought");
    await alice.message("written while it was dead").and(alice.page.locator(".queued")).waitFor();
    await shoot(alice.page, "offline");

    await world.server.start();
    const expected = ["start", ...burst("alice"), ...burst("bob"), "written while it was dead"];
    await Promise.all([alice.shows(expected), bob.shows(expected)]);
    assert.deepEqual(await alice.texts(), await bob.texts());
    assert.equal(await alice.composer.inputValue(), "half a thought");
    for (const name of ["alice", "bob"]) {
      const own = (await alice.texts()).filter((text) => text.startsWith(`${name} `));
      assert.deepEqual(own, burst(name), "in the order of writing");
    }

    await alice.page.reload();
    await alice.shows(expected);
    assert.deepEqual(await alice.texts(), await bob.texts());
    await bob.say("and on it goes");
    await alice.sees("and on it goes");
  }, QUICK_BACK));

test("messages, edits and deletions made while one was cut off are there when he is back", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const wire = new Wire();
    const bob = await world.person("bob", { wire });
    await alice.chatWith("bob");
    for (const text of ["first", "second", "third"]) await alice.say(text);
    await bob.open("alice");
    wire.cut();
    await bob.page.locator("#banner[data-phase=waiting]").waitFor();
    await alice.act("first", "Edit");
    await alice.write("first, edited");
    await alice.act("second", "Delete");
    await alice.page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
    await alice.react("third", "Heart");
    await alice.say("fourth");
    await bob.write("written while cut off");
    wire.mend();
    await bob.shows(["first, edited", "Message deleted", "third", "fourth", "written while cut off"]);
    await bob.message("third").getByRole("button", { name: "❤️ 1" }).waitFor();
    await alice.shows(await bob.texts());
    assert.deepEqual(await alice.texts(), await bob.texts());
  }));

test("frames lost on the way leave a hole, and the page fills it", () =>
  withWorld(async (world) => {
    const alice = await world.person("alice");
    const wire = new Wire();
    const bob = await world.person("bob", { wire });
    await alice.chatWith("bob");
    await alice.say("first");
    await bob.open("alice");
    await bob.sees("first");
    wire.lose = ({ type, content }) => type === "message" && content.text.startsWith("lost");
    await alice.say("lost 1");
    await alice.say("lost 2");
    await alice.say("arrives");
    await bob.shows(["first", "lost 1", "lost 2", "arrives"]);
    assert.deepEqual(await bob.texts(), ["first", "lost 1", "lost 2", "arrives"]);
    assert.equal(wire.lost, 2);
  }));

test("an acknowledgement that is lost leaves no second message", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    const alice = await world.person("alice", { wire });
    const bob = await world.person("bob");
    await alice.chatWith("bob");
    await alice.say("first");
    await bob.open("alice");
    wire.lose = ({ type }) => type === "sent";
    await alice.write("once");
    await bob.sees("once");
    wire.cut();
    await alice.page.locator("#banner[data-phase=waiting]").waitFor();
    wire.lose = () => false;
    wire.mend();
    await alice.acknowledged("once");
    await alice.say("last");
    await bob.shows(["first", "once", "last"]);
    await alice.shows(["first", "once", "last"]);
    assert.equal(wire.lost, 1);
  }));

test("writing goes on undisturbed while the first message makes the conversation", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    const alice = await world.person("alice", { wire });
    wire.cut();
    await alice.page.locator("#banner[data-phase=waiting]").waitFor();
    await alice.chatWith("bob");
    await alice.write("first");
    await alice.composer.fill("half a thought");
    wire.mend();
    await alice.acknowledged("first");
    await alice.row("bob").waitFor();
    assert.equal(await alice.composer.inputValue(), "half a thought");
  }));

test("what was unsent when its tab was closed is sent by the next one", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("before");
    await world.server.end("SIGKILL");
    await alice.banner.getByText("Reconnecting").waitFor();
    await alice.write("after");
    await alice.message("after").and(alice.page.locator(".queued")).waitFor();
    const context = alice.page.context();
    await alice.page.close();
    await world.server.start();
    const again = await world.personIn(context, "alice");
    await bob.open("alice");
    await bob.shows(["before", "after"]);
    await again.open("bob");
    await again.shows(["before", "after"]);
  }, QUICK_BACK));

test("a drained server says so, and the page comes back to the next one", () =>
  withWorld(async (world) => {
    const [alice, bob] = [await world.person("alice"), await world.person("bob")];
    await alice.chatWith("bob");
    await alice.say("before");
    await world.server.end("SIGTERM");
    await alice.write("meanwhile");
    await world.server.start();
    await alice.acknowledged("meanwhile");
    await bob.open("alice");
    await bob.shows(["before", "meanwhile"]);
  }, QUICK_BACK));

test("another store is another life: what was kept of the old one is forgotten", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    const alice = await world.person("alice", { wire });
    await alice.chatWith("bob");
    await alice.say("of the old life");
    await alice.loaded();
    wire.cut();
    await world.server.end("SIGKILL");
    await world.server.emptyStore();
    await world.server.start();
    // In the new store, the same conversation has another entry with the same number.
    const bob = await world.person("bob");
    await bob.chatWith("alice");
    await bob.say("of the new life");
    wire.mend();
    await alice.shows(["of the new life"]);
    await alice.say("and on it goes");
    await bob.shows(["of the new life", "and on it goes"]);
  }, QUICK_BACK));
