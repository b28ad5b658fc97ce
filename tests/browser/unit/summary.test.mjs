import assert from "node:assert/strict";
import { test } from "node:test";
import { applyToSummary, markRead, replaceSummary } from "../../../web/js/summary.js";
import { timeline } from "../../../web/js/timeline.js";
import { Log } from "../../../web/js/log.js";

const ME = "alice";
const T = "2026-01-02T03:04:05.678Z";

function summary(fields = {}) {
  const base = { kind: "group", title: "Lunch", role: "member", members_count: 3, last_seq: 4, read_seq: 4, unread: 0, mentioned_seq: 0, last_message: null };
  return { ...base, log: new Log(ME), members: null, counts: null, delivery: "full", ...fields };
}

const message = (seq, from, content = { text: `m${seq}` }) => ({ type: "message", conversation_id: "g:1", seq, from, content, timestamp: T });
const told = (fields) => ({ kind: "group", title: "Lunch", role: "member", delivery: "full", created_at: T, members_count: 3, mentioned_seq: 0, last_message: null, ...fields });

test("others' messages count as unread until one's own", () => {
  const conversation = summary();
  applyToSummary(conversation, message(5, "bob"), ME);
  applyToSummary(conversation, message(6, "bob", { text: "x", mentions: [ME] }), ME);
  assert.deepEqual([conversation.unread, conversation.mentioned_seq, conversation.last_message.text], [2, 6, "x"]);
  applyToSummary(conversation, message(7, ME), ME);
  assert.deepEqual([conversation.unread, conversation.read_seq], [0, 7]);
});

test("an entry that the summary counts already changes nothing", () => {
  const conversation = summary({ unread: 2 });
  applyToSummary(conversation, message(4, "bob"), ME);
  assert.equal(conversation.unread, 2);
});

test("the preview follows edits and deletions of the last message", () => {
  const conversation = summary();
  applyToSummary(conversation, message(5, "bob"), ME);
  applyToSummary(conversation, { type: "message_updated", seq: 6, target_seq: 5, content: { text: "edited" } }, ME);
  assert.equal(conversation.last_message.text, "edited");
  applyToSummary(conversation, { type: "message_updated", seq: 7, target_seq: 5, deleted: true }, ME);
  assert.equal(conversation.last_message.text, "");
});

test("a sync answer older than what came live does not count back", () => {
  const conversation = summary({ last_seq: 6, unread: 2 });
  replaceSummary(conversation, told({ last_seq: 5, read_seq: 4, unread: 1 }));
  assert.deepEqual([conversation.last_seq, conversation.unread], [6, 2]);
});

test("what was read here stays read, and the server is told again", () => {
  const conversation = summary({ last_seq: 6, unread: 2 });
  markRead(conversation, 6);
  assert.equal(replaceSummary(conversation, told({ last_seq: 6, read_seq: 4, unread: 2 })), true);
  assert.deepEqual([conversation.unread, conversation.read_seq], [0, 6]);
  assert.equal(replaceSummary(conversation, told({ last_seq: 7, read_seq: 6, unread: 1 })), false);
  assert.equal(conversation.unread, 1);
});

test("one's own message is read when every other member has read it", () => {
  const conversation = summary();
  conversation.log.start({ messages: [message(1, ME), message(2, "bob"), message(3, ME)], last_seq: 3, more: false });
  const progress = (bob, carol) => {
    const member = (user_id, [delivered_seq, read_seq]) => [user_id, { user_id, role: "member", delivered_seq, read_seq }];
    conversation.members = new Map([member(ME, [3, 3]), member("bob", bob), member("carol", carol)]);
    return timeline(conversation, [], ME, { from: 0, to: 0 }).filter((row) => row.mine).map((row) => row.progress);
  };
  assert.deepEqual(progress([0, 0], [3, 3]), ["sent", "sent"]);
  assert.deepEqual(progress([3, 1], [3, 3]), ["read", "delivered"]);
  assert.deepEqual(progress([3, 3], [3, 3]), ["read", "read"]);
});

test("the unread line stands before the first message that was new when the view was opened", () => {
  const conversation = summary();
  conversation.log.start({ messages: [message(1, "bob"), message(2, ME), message(3, "bob"), message(4, "bob")], last_seq: 4, more: false });
  const kinds = (unread) => timeline(conversation, [], ME, unread).map((row) => row.kind);
  assert.deepEqual(kinds({ from: 2, to: 4 }), ["day", "message", "message", "unread", "message", "message"]);
  assert.deepEqual(kinds({ from: 4, to: 4 }), ["day", "message", "message", "message", "message"]);
});
