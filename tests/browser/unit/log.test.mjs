import assert from "node:assert/strict";
import { test } from "node:test";
import { Log } from "../../../web/js/log.js";
import { generator, pick, seeds } from "./random.mjs";

const ME = "alice";
const USERS = [ME, "bob", "carol"];
const EMOJI = ["👍", "🎉", "👀"];

/** A minimal model of the server: a list of all entries, and the state at any point computed by folding from the start. */
class Server {
  entries = [];

  append(fields) {
    const entry = { conversation_id: "g:1", timestamp: `t${this.entries.length + 1}`, ...fields, seq: this.entries.length + 1 };
    this.entries.push(entry);
    return entry;
  }

  /** Appends a random entry that the server would allow: no reaction twice, no change of a deleted message. */
  appendRandom(random) {
    const state = [...this.stateAt(this.entries.length).values()].filter((message) => !message.deleted);
    const kind = state.length === 0 ? 0 : random();
    const from = pick(random, USERS);
    if (kind < 0.4) return this.append({ type: "message", from, client_id: `c${this.entries.length}`, content: { text: `m${this.entries.length}` } });
    if (kind < 0.45) return this.append({ type: "membership", added: ["dave"], by: from });
    const target = pick(random, state);
    if (kind < 0.6) return this.append({ type: "message_updated", target_seq: target.seq, content: { text: `e${this.entries.length}` }, by: from });
    if (kind < 0.65) return this.append({ type: "message_updated", target_seq: target.seq, deleted: true, by: from });
    const emoji = pick(random, EMOJI);
    const added = !target.given.has(`${emoji}${from}`);
    return this.append({ type: "reaction", target_seq: target.seq, user_id: from, emoji, added });
  }

  stateAt(seq) {
    const messages = new Map();
    for (const entry of this.entries.slice(0, seq)) {
      const target = messages.get(entry.target_seq);
      if (entry.type === "message") messages.set(entry.seq, { ...entry, given: new Set() });
      if (entry.type === "message_updated" && entry.deleted) {
        target.deleted = true;
        delete target.content;
      } else if (entry.type === "message_updated") Object.assign(target, { content: entry.content, edited_at: entry.timestamp });
      if (entry.type === "reaction" && entry.added) target.given.add(`${entry.emoji}${entry.user_id}`);
      if (entry.type === "reaction" && !entry.added) target.given.delete(`${entry.emoji}${entry.user_id}`);
    }
    return messages;
  }

  history({ before = Infinity, limit }, at = this.entries.length) {
    const all = [...this.stateAt(at).values()].filter((message) => message.seq < before).map(shown);
    return { messages: all.slice(-limit), last_seq: at, more: all.length > limit };
  }

  changes(after, limit) {
    const entries = this.entries.slice(after, after + limit);
    return { entries, last_seq: this.entries.length, more: after + limit < this.entries.length };
  }
}

/** A message in the form of `history`. */
function shown({ given, ...message }) {
  const reactions = EMOJI.map((emoji) => {
    const users = USERS.filter((user) => given.has(`${emoji}${user}`));
    return { emoji, count: users.length, me: users.includes(ME) };
  }).filter(({ count }) => count > 0);
  return { ...message, reactions };
}

function comparable({ as_of: _, reactions, ...message }) {
  return { ...message, reactions: [...reactions].sort((a, b) => EMOJI.indexOf(a.emoji) - EMOJI.indexOf(b.emoji)) };
}

function message(seq, text = `m${seq}`) {
  return { type: "message", conversation_id: "g:1", seq, from: "bob", timestamp: `t${seq}`, content: { text } };
}

function loaded() {
  const log = new Log(ME);
  log.start({ messages: [], last_seq: 0, more: false });
  return log;
}

const texts = (log) => log.messages.map(({ content }) => content?.text);

test("applies in order, ignores what it has", () => {
  const log = loaded();
  assert.deepEqual(log.receive(message(1)).map(({ seq }) => seq), [1]);
  assert.deepEqual(log.receive(message(1, "again")), []);
  assert.deepEqual(texts(log), ["m1"]);
  assert.equal(log.behind, false);
});

test("an entry after a hole waits until changes has filled it", () => {
  const log = loaded();
  assert.deepEqual(log.receive(message(3)), []);
  assert.equal(log.behind, true);
  assert.equal(log.seq, 0);
  assert.deepEqual(log.changes({ entries: [message(1), message(2)], last_seq: 3 }).map(({ seq }) => seq), [1, 2, 3]);
  assert.deepEqual(texts(log), ["m1", "m2", "m3"]);
  assert.equal(log.behind, false);
});

test("changes with more leaves it behind", () => {
  const log = loaded();
  log.changes({ entries: [message(1)], last_seq: 2, more: true });
  assert.equal(log.behind, true);
});

test("reset forgets, and a page of history begins anew", () => {
  const log = loaded();
  log.receive(message(1));
  log.receive(message(9));
  assert.deepEqual(log.changes({ entries: [], last_seq: 9000, reset: true }), []);
  assert.equal(log.loaded, false);
  assert.equal(log.behind, false);
  log.start({ messages: [{ ...message(8999), reactions: [] }], last_seq: 9000, more: true });
  assert.deepEqual(texts(log), ["m8999"]);
  assert.equal(log.older, true);
});

test("a page of history that is staler than what came live takes the log back, and changes fills the rest", () => {
  const log = new Log(ME);
  log.skipTo(4);
  log.receive(message(5));
  assert.equal(log.seq, 5);
  log.start({ messages: [{ ...message(1), reactions: [] }], last_seq: 4, more: false });
  assert.equal(log.behind, true);
  log.changes({ entries: [message(5)], last_seq: 5 });
  assert.deepEqual(texts(log), ["m1", "m5"]);
});

test("a reaction that a page of history already counts is not counted again", () => {
  const log = loaded();
  const reacted = { ...message(1), reactions: [{ emoji: "👍", count: 1, me: false }] };
  log.receive(message(1));
  log.forget();
  log.start({ messages: [reacted], last_seq: 2, more: false });
  log.receive({ type: "reaction", conversation_id: "g:1", seq: 2, target_seq: 1, user_id: "bob", emoji: "👍", added: true, timestamp: "t2" });
  assert.deepEqual(log.messages[0].reactions, [{ emoji: "👍", count: 1, me: false }]);
});

test("an older page newer than the log keeps its reactions when their entries come", () => {
  const log = new Log(ME);
  log.start({ messages: [{ ...message(2), reactions: [] }], last_seq: 2, more: true });
  log.prepend({ messages: [{ ...message(1), reactions: [{ emoji: "👍", count: 1, me: false }] }], last_seq: 3, more: false });
  assert.equal(log.behind, true);
  log.receive({ type: "reaction", conversation_id: "g:1", seq: 3, target_seq: 1, user_id: "bob", emoji: "👍", added: true, timestamp: "t3" });
  assert.deepEqual(log.messages[0].reactions, [{ emoji: "👍", count: 1, me: false }]);
});

test("an older page staler than the log is refused", () => {
  const log = new Log(ME);
  log.start({ messages: [{ ...message(2), reactions: [] }], last_seq: 2, more: true });
  log.receive({ type: "message_updated", conversation_id: "g:1", seq: 3, target_seq: 1, deleted: true, by: "bob", timestamp: "t3" });
  assert.equal(log.prepend({ messages: [{ ...message(1), reactions: [] }], last_seq: 2, more: false }), false);
  assert.deepEqual(texts(log), ["m2"]);
});

test("what waits is bounded: the rest is asked for again", () => {
  const log = loaded();
  for (let seq = 2; seq < 2_000; seq++) log.receive(message(seq));
  const filled = log.receive(message(1)).length;
  assert.ok(filled < 1_000, `${filled} waited`);
  assert.equal(log.behind, true);
});

test("repeats of what is known take no room from what waits", () => {
  const log = loaded();
  for (let seq = 1; seq <= 1_000; seq++) log.receive(message(seq));
  for (let seq = 1; seq <= 1_000; seq++) log.receive(message(seq));
  log.receive(message(1_002));
  assert.deepEqual(log.receive(message(1_001)).map(({ seq }) => seq), [1_001, 1_002]);
});

test("a page of older messages that comes twice is put in front once", () => {
  const log = new Log(ME);
  log.start({ messages: [{ ...message(2), reactions: [] }], last_seq: 2, more: true });
  const page = { messages: [{ ...message(1), reactions: [] }], last_seq: 2, more: false };
  log.prepend(page);
  log.prepend(page);
  assert.deepEqual(texts(log), ["m1", "m2"]);
});

test("an unloaded log keeps only its position", () => {
  const log = new Log(ME);
  log.skipTo(7);
  assert.deepEqual(log.receive(message(8)).map(({ seq }) => seq), [8]);
  assert.deepEqual(log.messages, []);
  log.receive(message(10));
  assert.equal(log.behind, true);
  assert.deepEqual(log.skipTo(9).map(({ seq }) => seq), [10]);
});

test("trimming keeps the newest and knows that there are older ones", () => {
  const log = loaded();
  for (let seq = 1; seq <= 5; seq++) log.receive(message(seq));
  log.trim(2);
  assert.deepEqual(texts(log), ["m4", "m5"]);
  assert.equal(log.older, true);
});

test("any interleaving of live frames, history, changes and losses ends in the server's state", () => {
  for (const seed of seeds()) interleave(seed);
});

/** Answers have the state at the time of the request, and arrive later, in any order, like all frames. */
function interleave(seed) {
  const random = generator(seed);
  const server = new Server();
  const log = new Log(ME);
  const underWay = [];
  const askChanges = () => {
    const answer = random() < 0.1 ? { entries: [], last_seq: server.entries.length, reset: true } : server.changes(log.seq, 1 + Math.floor(random() * 8));
    underWay.push(() => log.changes(answer));
  };
  const askHistory = () => {
    const page = server.history({ limit: 4 });
    underWay.push(() => log.loaded || log.start(page));
  };
  const askOlder = () => {
    const before = log.messages[0]?.seq;
    if (!log.loaded || !log.older || before === undefined) return;
    const page = server.history({ before, limit: 4 });
    underWay.push(() => log.loaded && log.messages[0]?.seq === before && log.prepend(page));
  };
  const append = () => {
    const entry = server.appendRandom(random);
    for (let copies = pick(random, [0, 1, 1, 1, 2]); copies > 0; copies--) underWay.push(() => log.receive(entry));
    if (random() < 0.1) underWay.push(() => log.expect(entry.seq));
    if (random() < 0.05) underWay.push(() => log.skipTo(entry.seq));
  };
  const deliver = () => underWay.splice(Math.floor(random() * underWay.length), 1)[0]?.();

  for (let step = 0; step < 150; step++) {
    pick(random, [append, append, deliver, deliver, deliver, askChanges, askHistory, askOlder, () => random() < 0.1 && log.forget(), () => random() < 0.1 && log.trim(3)])();
  }
  while (underWay.length > 0) deliver();
  log.expect(server.entries.length);
  if (!log.loaded) log.start(server.history({ limit: 4 }));
  while (log.behind) log.changes(server.changes(log.seq, 5));
  while (log.older) log.prepend(server.history({ before: log.messages[0]?.seq, limit: 4 }));
  const expected = [...server.stateAt(server.entries.length).values()].map(shown);
  assert.deepEqual(log.messages.map(comparable), expected, `SEED=${seed}`);
}
