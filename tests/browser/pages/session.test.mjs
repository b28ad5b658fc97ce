import assert from "node:assert/strict";
import { test } from "node:test";
import { Wire, withWorld } from "./support.mjs";

test("a token is renewed before it runs out, without a gap", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    const bob = await world.person("bob");
    const alice = await world.person("alice", {
      wire,
      prepare: (context) =>
        context.route("**/v1/dev/token", (route) =>
          // A quarter of it is left when it is renewed.
          route.fulfill({ json: { data: { token: world.server.mint("alice", 20), user_id: "alice" } } }),
        ),
    });
    await alice.chatWith("bob");
    // The second renewal comes after the first token has expired.
    await wire.until("authenticated", 2);
    await alice.say("still here");
    await bob.open("alice");
    await bob.sees("still here");
    assert.equal(wire.opened, 1);
  }));

test("a token that is no longer valid is replaced by a new one", () =>
  withWorld(async (world) => {
    const wire = new Wire();
    const alice = await world.person("alice", { wire });
    await alice.page.evaluate(() => {
      const session = JSON.parse(sessionStorage.getItem("switchboard.session") ?? "");
      sessionStorage.setItem("switchboard.session", JSON.stringify({ ...session, token: "of.another.key" }));
    });
    await alice.page.reload();
    await alice.online();
    assert.equal(wire.opened, 3, "the first one, the refused one, the one with a new token");
  }));

test("a server that falls silent is left, and what was written meanwhile arrives", () =>
  withWorld(
    async (world) => {
      const wire = new Wire();
      const alice = await world.person("alice", { wire });
      await alice.chatWith("bob");
      await alice.say("before");
      const silent = wire.opened;
      wire.lose = () => wire.opened === silent;
      await alice.write("into the void");
      await alice.acknowledged("into the void");
      assert.ok(wire.opened > silent, "a new socket replaced it");
      await alice.shows(["before", "into the void"]);
    },
    ["limits.heartbeat_ms=1000"],
  ));
