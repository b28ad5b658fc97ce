import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { addressOf, parseAsked } from "../../../web/js/trace/ask.js";
import { lanesOf, scaleOf, stepsOf } from "../../../web/js/trace/lanes.js";
import { isKnown, offset, outcomeOf, reason, stepOf } from "../../../web/js/trace/words.js";

const STORED_AT = "2026-01-01T00:00:00.000Z";
const event = (ms, more) => ({ at: new Date(Date.parse(STORED_AT) + ms).toISOString(), node_id: "n1", step: "given", ...more });

/** The first column of a table in the protocol's section about the trace. */
function wordsOf(column) {
  const protocol = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");
  const [, chapter] = /^### Trace$(.*?)^## /ms.exec(protocol) ?? [];
  const [, table] = chapter.split(`| \`${column}\` |`);
  const rows = table.slice(0, table.indexOf("\n\n")).split("\n").slice(2);
  return rows.flatMap((row) => [...row.split("|")[1].matchAll(/`(\w+)`/g)].map(([, word]) => word));
}

test("there are words for every outcome and step of the protocol, and for those of a newer server", () => {
  const words = [...wordsOf("outcome"), ...wordsOf("step")];
  assert.equal(words.length, 21);
  assert.deepEqual(words.filter((word) => !isKnown(word)), []);
  assert.equal(outcomeOf("sent_by_post").text, "sent by post");
  assert.equal(stepOf(event(0, { step: "put_into_a_bottle" })).text, "put into a bottle");
});

test("a step is told in words", () => {
  const said = (more) => stepOf(event(0, more)).text;
  assert.equal(said({ step: "announced", home_id: "n2", users: 1 }), "announced to n2, the home of 1 member");
  assert.equal(said({ step: "given_to_more", sessions: 2 }), "given to 2 more sessions");
  assert.equal(said({ step: "not_notified", why: "quiet_hours" }), "no notification: quiet hours");
  assert.equal(said({ step: "failed", provider: "fcm", reason: "503" }), "fcm failed: 503; given up");
  assert.match(said({ step: "failed", provider: "fcm", reason: "503", again_at: STORED_AT }), /^fcm failed: 503; again at .*:00:00$/);
  assert.match(said({ step: "queued", provider: "apns", count: 3, not_before: STORED_AT, why: "rate" }), /^queued for apns, for 3 messages, not before .*: rate$/);
  assert.equal(reason("not_connected"), "no device was connected");
});

test("the time since a message was stored is in ms, until that says less", () => {
  const number = (text) => text.replace(/[^\d+−hmins .]/g, "");
  assert.deepEqual([-3, 0, 1, 9_999, 12_345, 3_600_000, 36_000_000].map(offset).map(number), ["−3 ms", "+0 ms", "+1 ms", "+9999 ms", "+12.3 s", "+60 min", "+10.0 h"]);
});

test("each node and device has a lane, in the order of time", () => {
  const events = [event(-2, { node_id: "n2", device_id: "phone" }), event(3, { device_id: "phone" }), event(4, { step: "delivered" }), event(9, { device_id: "phone", node_id: "n2" })];
  const lanes = lanesOf(stepsOf(events, STORED_AT));
  const drawn = lanes.map(({ node_id, device_id, steps }) => [node_id, device_id, steps.map(({ after_ms }) => after_ms)]);
  assert.deepEqual(drawn, [["n2", "phone", [-2, 9]], ["n1", "phone", [3]], ["n1", null, [4]]]);
});

test("the scale holds everything, and orders it", () => {
  for (const longest of [0, 5, 100, 101, 59_000, 345_600_000, 4_000_000_000]) {
    const { part, ticks } = scaleOf(longest);
    assert.ok(ticks.length >= 3 && part(longest) <= 1 && part(ticks[ticks.length - 1].ms) <= 1, `${longest}`);
    assert.equal(part(-20), 0, "from a node whose clock is behind");
    const parts = [0, 1, Math.max(1, longest)].map(part);
    assert.deepEqual(parts, [...parts].sort((a, b) => a - b), `${longest}`);
  }
  assert.equal(scaleOf(300).ticks.at(-1)?.ms, 1_000);
});

test("an address says what is asked, whatever the ids are made of", () => {
  const address = addressOf("d:a&b=1#x", 7);
  assert.deepEqual(parseAsked(new URL(address, "http://localhost").search), { conversation: "d:a&b=1#x", seq: "7", user: "" });
  assert.deepEqual(parseAsked(""), { conversation: "", seq: "", user: "" });
});
