import assert from "node:assert/strict";
import { test } from "node:test";
import { Outbox, OUTBOX_MAX } from "../../../web/js/outbox.js";
import { generator, pick, seeds } from "./random.mjs";

/** `localStorage` in memory. Its keys are not in the order of insertion. */
class Storage {
  #kept = new Map();
  get length() {
    return this.#kept.size;
  }
  key(at) {
    return [...this.#kept.keys()].reverse()[at] ?? null;
  }
  getItem(key) {
    return this.#kept.get(key) ?? null;
  }
  setItem(key, value) {
    this.#kept.set(key, value);
  }
  removeItem(key) {
    this.#kept.delete(key);
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

/** An outbox with its dependencies; tests pass their own `send`. */
function outboxWith(options = {}) {
  const sent = [];
  const timers = [];
  let ids = 0;
  const outbox = new Outbox({
    ...{ storage: new Storage(), user: "alice", lastSeq: () => 7, onSent: (answer) => sent.push(answer), onChange: () => {} },
    ...{ makeId: () => `id-${++ids}`, now: () => 1_000, later: (run, delay_ms) => timers.push({ run, delay_ms }) },
    ...options,
  });
  return { outbox, sent, timers };
}

const answerTo = (frame, seq = 8) => ({ type: "sent", client_id: frame.client_id, conversation_id: "d:1", seq, timestamp: "t", duplicate: false });
const refusal = (code, fields = {}) => Promise.reject(Object.assign(new Error(code), { code, ...fields }));
const BOB = { to: "bob" };

test("sends when online, and forgets what is acknowledged", async () => {
  const storage = new Storage();
  const frames = [];
  const { outbox, sent } = outboxWith({ storage, send: async (frame) => (frames.push(frame), answerTo(frame)) });
  outbox.add(BOB, { text: "one" });
  assert.equal(frames.length, 0);
  assert.equal(storage.length, 1);
  outbox.online();
  await settled();
  assert.deepEqual(frames, [{ type: "send", to: "bob", client_id: "id-1", content: { text: "one" }, base_seq: 7 }]);
  assert.equal(storage.length, 0);
  assert.equal(sent.length, 1);
  assert.equal(outbox.for(BOB)[0].state, "sent");
  outbox.settle("d:1", 8);
  assert.equal(outbox.size, 0);
});

test("a repeat after a break is the same send: client_id, content and the base_seq of the first try", async () => {
  const frames = [];
  let last = 7;
  const { outbox } = outboxWith({ lastSeq: () => last++, send: (frame) => (frames.push(frame), frames.length === 1 ? refusal("disconnected") : Promise.resolve(answerTo(frame))) });
  outbox.online();
  outbox.add(BOB, { text: "one" });
  outbox.offline();
  await settled();
  assert.equal(outbox.for(BOB)[0].state, "queued");
  outbox.online();
  await settled();
  assert.equal(frames.length, 2);
  assert.deepEqual(frames[1], frames[0]);
});

test("a reloaded page goes on with the same send", async () => {
  const storage = new Storage();
  const frames = [];
  const before = outboxWith({ storage, send: (frame) => (frames.push(frame), new Promise(() => {})) });
  before.outbox.online();
  before.outbox.add(BOB, { text: "one" });
  before.outbox.add(BOB, { text: "two" });
  const after = outboxWith({ storage, lastSeq: () => 99, send: async (frame) => (frames.push(frame), answerTo(frame)) });
  after.outbox.online();
  await settled();
  assert.deepEqual(frames.map(({ content, base_seq }) => [content.text, base_seq]), [["one", 7], ["one", 7], ["two", 99]]);
});

test("waits as long as the error says, and keeps the order meanwhile", async () => {
  const frames = [];
  const { outbox, timers } = outboxWith({ send: (frame) => (frames.push(frame), frames.length === 1 ? refusal("unavailable", { retry_after_ms: 300 }) : Promise.resolve(answerTo(frame))) });
  outbox.online();
  outbox.add(BOB, { text: "one" });
  await settled();
  outbox.add(BOB, { text: "two" });
  await settled();
  assert.equal(frames.length, 1);
  assert.equal(timers[0].delay_ms, 300);
  timers[0].run();
  await settled();
  assert.deepEqual(frames.map(({ content }) => content.text), ["one", "one", "two"]);
});

test("a refused message says why and holds up no other", async () => {
  const { outbox } = outboxWith({ send: (frame) => (frame.content.text === "one" ? refusal("blocked", { message: "blocked" }) : Promise.resolve(answerTo(frame))) });
  outbox.online();
  outbox.add(BOB, { text: "one" });
  outbox.add(BOB, { text: "two" });
  await settled();
  assert.deepEqual(outbox.for(BOB).map(({ state, problem }) => [state, problem]), [["failed", "blocked"], ["sent", undefined]]);
  outbox.discard("id-1");
  assert.equal(outbox.for(BOB).length, 1);
});

test("an unknown outcome is never repeated by itself; sending again makes a new message", async () => {
  const frames = [];
  const { outbox } = outboxWith({ send: (frame) => (frames.push(frame), frames.length === 1 ? refusal("outcome_unknown") : Promise.resolve(answerTo(frame))) });
  outbox.online();
  outbox.add(BOB, { text: "one" });
  await settled();
  outbox.offline();
  outbox.online();
  await settled();
  assert.equal(frames.length, 1);
  outbox.resend("id-1");
  await settled();
  assert.equal(frames[1].client_id, "id-2");
});

test("the message in the log confirms it, whoever sent it", async () => {
  const { outbox } = outboxWith({ send: () => assert.fail("nothing should be sent") });
  outbox.add(BOB, { text: "one" });
  outbox.confirm("id-1");
  outbox.online();
  await settled();
  assert.equal(outbox.size, 0);
});

test("another life of the store makes base_seq count no longer", async () => {
  const frames = [];
  let last = 7;
  const { outbox } = outboxWith({ lastSeq: () => last, send: (frame) => (frames.push(frame), refusal("disconnected")) });
  outbox.online();
  outbox.add(BOB, { text: "one" });
  outbox.offline();
  await settled();
  outbox.forgetPositions();
  last = 2;
  outbox.online();
  outbox.offline();
  await settled();
  assert.deepEqual(frames.map(({ base_seq }) => base_seq), [7, 2]);
});

test("it has an end", () => {
  const { outbox } = outboxWith({ send: () => new Promise(() => {}) });
  for (let count = 0; count < OUTBOX_MAX; count++) assert.ok(outbox.add(BOB, { text: "x" }));
  assert.equal(outbox.add(BOB, { text: "x" }), null);
});

test("what others left in the storage is left alone", () => {
  const storage = new Storage();
  storage.setItem("switchboard.outbox/alice/x", "{broken");
  storage.setItem("switchboard.outbox/bob/y", JSON.stringify({ client_id: "y", target: BOB, content: {} }));
  assert.equal(outboxWith({ storage, send: () => new Promise(() => {}) }).outbox.size, 0);
});

test("whatever breaks, each message arrives once and in its order", async () => {
  for (const seed of seeds()) await interleave(seed);
});

/** A server that stores each client_id once, a network that loses requests and answers, and a page that is sometimes reloaded. */
async function interleave(seed) {
  const random = generator(seed);
  const storage = new Storage();
  const stored = [];
  const bases = new Map();
  const written = [];
  let underWay = [];
  let timers = [];
  let id = 0;
  let page = 0;

  const accept = (frame) => {
    const base = bases.get(frame.client_id) ?? frame.base_seq;
    assert.equal(frame.base_seq, base, `SEED=${seed}`);
    bases.set(frame.client_id, base);
    const known = stored.findIndex(({ client_id }) => client_id === frame.client_id);
    if (known < 0) stored.push(frame);
    return { ...answerTo(frame, (known < 0 ? stored.length - 1 : known) + 1), duplicate: known >= 0 };
  };
  /** A page that was reloaded sends nothing any more. */
  const sendFrom = (sender) => (frame) =>
    new Promise((resolve, reject) => {
      if (sender !== page) return;
      const fail = (code) => reject(Object.assign(new Error(code), { code }));
      underWay.push({
        answer: () => (random() < 0.2 ? fail(pick(random, ["unavailable", "rate_limited"])) : resolve(accept(frame))),
        lose: () => (random() < 0.5 && accept(frame), fail("disconnected")),
      });
    });
  const open = () =>
    new Outbox({
      ...{ storage, user: "alice", send: sendFrom(++page), lastSeq: () => stored.length, onSent: () => {}, onChange: () => {} },
      ...{ makeId: () => `id-${seed}-${++id}`, now: () => 1_000, later: (run) => timers.push(run) },
    });

  let outbox = open();
  const breakDown = () => {
    outbox.offline();
    for (const request of underWay.splice(0)) request.lose();
  };
  const reload = () => {
    const asked = underWay.splice(0);
    timers = [];
    outbox = open();
    for (const request of asked) if (random() < 0.5) request.answer();
  };
  const write = () => {
    const target = pick(random, [BOB, { conversation_id: "g:1" }]);
    const text = `t${written.length}`;
    written.push({ target, text });
    outbox.add(target, { text });
  };
  const answer = () => underWay.shift()?.answer();
  const ring = () => timers.shift()?.();

  for (let step = 0; step < 60; step++) {
    pick(random, [write, answer, answer, ring, () => outbox.online(), () => random() < 0.4 && breakDown(), () => random() < 0.2 && reload()])();
    if (random() < 0.7) await settled();
  }
  outbox.online();
  for (let rounds = 0; storage.length > 0 && rounds < 1_000; rounds++) {
    answer();
    ring();
    await settled();
  }
  assert.equal(storage.length, 0, `SEED=${seed}: something was never sent`);
  for (const target of [BOB, { conversation_id: "g:1" }]) {
    const key = JSON.stringify(target);
    const texts = written.filter((message) => JSON.stringify(message.target) === key).map(({ text }) => text);
    const arrived = stored.filter((frame) => ("to" in target ? frame.to === "bob" : frame.conversation_id === "g:1"));
    assert.deepEqual(arrived.map(({ content }) => content.text), texts, `SEED=${seed}`);
  }
}
