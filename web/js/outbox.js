/**
 * Unsent messages. Each is kept in the browser from the moment it is written until the server says `sent`, with the same
 * `client_id` and `base_seq` for every attempt, so that it arrives once, whatever breaks in between (PROTOCOL §3, "Sends").
 *
 * Owns the waiting messages and their schedule. Knows neither the socket nor the page: both are passed as functions.
 * One message per conversation is under way at a time, so that they arrive in the order in which they were written.
 *
 * @typedef {import("./types.js").Content} Content
 * @typedef {{to: string} | {conversation_id: string}} Target a direct conversation is always addressed by its peer
 *
 * @typedef {object} Item
 * @property {string} client_id
 * @property {Target} target
 * @property {Content} content
 * @property {number} order grows with each message written
 * @property {string} written_at
 * @property {number} [base_seq] the `last_seq` known at the first attempt
 * @property {"queued"|"sending"|"failed"|"unknown"|"sent"} state
 * @property {string} [problem] why it failed, to be shown
 * @property {number} [seq] once sent
 * @property {string} [conversation_id] once sent
 *
 * @typedef {object} Sent
 * @property {string} client_id
 * @property {string} conversation_id
 * @property {number} seq
 *
 * @typedef {object} Options
 * @property {Pick<Storage, "getItem"|"setItem"|"removeItem"|"key"|"length">} storage
 * @property {string} user
 * @property {(frame: object) => Promise<Sent>} send rejects with {code, message, retry_after_ms?}
 * @property {(target: Target) => number} lastSeq the newest entry known in a conversation, 0 when there is none
 * @property {(sent: Sent, item: Item) => void} onSent
 * @property {() => void} onChange
 * @property {() => string} makeId
 * @property {() => number} now in milliseconds
 * @property {(run: () => void, delay_ms: number) => void} later
 */

/** Messages that may wait: fits easily into the browser's storage. */
export const OUTBOX_MAX = 500;
/** The pause of a target after an error without a retry time. */
const RETRY_MS = 2_000;
/** Codes with which a retry may succeed. With any other code it would fail again. */
const TRANSIENT = new Set(["disconnected", "timeout", "unavailable", "overloaded", "rate_limited", "internal", "unauthorized"]);

export class Outbox {
  /** @type {Map<string, Item>} by client_id, in the order of writing */
  #items = new Map();
  /** @type {Set<string>} targets with a message under way or resting after an error */
  #busy = new Set();
  #online = false;
  #order = 0;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#prefix = `switchboard.outbox/${options.user}/`;
    this.#load();
  }
  #options;
  #prefix;

  /**
   * @param {Target} target
   * @returns {Item[]} its messages that the log does not show yet, in the order of writing
   */
  for(target) {
    const key = keyOf(target);
    return [...this.#items.values()].filter((item) => keyOf(item.target) === key);
  }

  get size() {
    return this.#items.size;
  }

  /**
   * Keeps a message and sends it as soon as possible.
   * @param {Target} target
   * @param {Content} content
   * @returns {Item | null} null when there is no room
   */
  add(target, content) {
    if (this.#items.size >= OUTBOX_MAX) return null;
    const now_ms = this.#options.now();
    this.#order = Math.max(this.#order + 1, now_ms);
    const written_at = new Date(now_ms).toISOString();
    /** @type {Item} */
    const item = { client_id: this.#options.makeId(), target, content, order: this.#order, written_at, state: "queued" };
    this.#items.set(item.client_id, item);
    this.#save(item);
    this.#options.onChange();
    this.#pump(target);
    return item;
  }

  /** A session is ready: waiting messages may be sent. */
  online() {
    this.#online = true;
    this.#pumpAll();
  }

  /** The session is gone. What was under way fails with `disconnected` and waits for the next one. */
  offline() {
    this.#online = false;
  }

  /** @param {string} client_id of a failed message */
  retry(client_id) {
    const item = this.#items.get(client_id);
    if (item?.state !== "failed") return;
    this.#set(item, "queued");
    this.#pump(item.target);
  }

  /**
   * Sends a message of unknown outcome as a new one, because the user decided so.
   * @param {string} client_id
   */
  resend(client_id) {
    const item = this.#items.get(client_id);
    if (item?.state !== "unknown") return;
    this.discard(client_id);
    this.add(item.target, item.content);
  }

  /** @param {string} client_id */
  discard(client_id) {
    this.#remove(client_id);
    this.#options.onChange();
  }

  /**
   * The log has this message: it needs no more attempts, even if its `sent` was lost or another tab sent it.
   * @param {string} client_id
   */
  confirm(client_id) {
    if (this.#items.has(client_id)) this.discard(client_id);
  }

  /**
   * The log shows everything up to `seq`, acknowledged messages included.
   * @param {string} conversation_id
   * @param {number} seq
   */
  settle(conversation_id, seq) {
    for (const item of this.#items.values()) {
      if (item.state === "sent" && item.conversation_id === conversation_id && /** @type {number} */ (item.seq) <= seq) {
        this.discard(item.client_id);
      }
    }
  }

  /** The server's store is a different one: what was known of its conversations is void. */
  forgetPositions() {
    for (const item of this.#items.values()) {
      if (item.base_seq === undefined) continue;
      delete item.base_seq;
      this.#save(item);
    }
  }

  /** @param {Target} target */
  #pump(target) {
    const key = keyOf(target);
    if (!this.#online || this.#busy.has(key)) return;
    const next = this.for(target).find((item) => item.state === "queued");
    if (next) void this.#transmit(next, key);
  }

  #pumpAll() {
    const targets = new Map([...this.#items.values()].map((item) => [keyOf(item.target), item.target]));
    for (const target of targets.values()) this.#pump(target);
  }

  /**
   * @param {Item} item
   * @param {string} key
   */
  async #transmit(item, key) {
    this.#busy.add(key);
    if (item.base_seq === undefined) {
      item.base_seq = this.#options.lastSeq(item.target);
      this.#save(item);
    }
    this.#set(item, "sending");
    const { client_id, content, base_seq } = item;
    try {
      this.#acknowledged(item, await this.#options.send({ type: "send", ...item.target, client_id, content, base_seq }));
    } catch (error) {
      const rest_ms = this.#refused(item, /** @type {{code?: string, message?: string, retry_after_ms?: number}} */ (error));
      if (rest_ms > 0) return this.#options.later(() => this.#release(item.target), rest_ms);
    }
    this.#release(item.target);
  }

  /** @param {Target} target */
  #release(target) {
    this.#busy.delete(keyOf(target));
    this.#pump(target);
  }

  /**
   * @param {Item} item
   * @param {Sent} sent
   */
  #acknowledged(item, sent) {
    if (this.#items.has(item.client_id)) {
      this.#options.storage.removeItem(this.#prefix + item.client_id);
      item.seq = sent.seq;
      item.conversation_id = sent.conversation_id;
      this.#set(item, "sent");
    }
    this.#options.onSent(sent, item);
  }

  /**
   * @param {Item} item
   * @param {{code?: string, message?: string, retry_after_ms?: number}} error
   * @returns {number} the pause of the target, in milliseconds
   */
  #refused(item, error) {
    if (error.code === "disconnected") {
      this.#set(item, "queued");
      return 0;
    }
    if (TRANSIENT.has(error.code ?? "internal")) {
      this.#set(item, "queued");
      return error.retry_after_ms ?? RETRY_MS;
    }
    item.problem = error.message;
    this.#set(item, error.code === "outcome_unknown" ? "unknown" : "failed");
    return 0;
  }

  /**
   * @param {Item} item
   * @param {Item["state"]} state
   */
  #set(item, state) {
    item.state = state;
    this.#options.onChange();
  }

  /** @param {Item} item */
  #save(item) {
    const { state: _, problem: __, ...kept } = item;
    try {
      this.#options.storage.setItem(this.#prefix + item.client_id, JSON.stringify(kept));
    } catch {
      // Storage that is full or forbidden costs only what a closed tab would lose: the message still waits here.
    }
  }

  /** @param {string} client_id */
  #remove(client_id) {
    this.#items.delete(client_id);
    this.#options.storage.removeItem(this.#prefix + client_id);
  }

  /** One key per message, so that two tabs of one user never overwrite each other's. */
  #load() {
    const { storage } = this.#options;
    const keys = Array.from({ length: storage.length }, (_, at) => storage.key(at) ?? "");
    const items = keys.filter((key) => key.startsWith(this.#prefix)).map((key) => parse(storage.getItem(key)));
    const known = items.filter((item) => item !== null).sort((a, b) => a.order - b.order);
    for (const item of known) {
      this.#items.set(item.client_id, item);
      this.#order = Math.max(this.#order, item.order);
    }
  }
}

/** @param {Target} target */
export function keyOf(target) {
  return "to" in target ? `to:${target.to}` : `in:${target.conversation_id}`;
}

/**
 * @param {string | null} text
 * @returns {Item | null} null for data that this version did not write
 */
function parse(text) {
  try {
    const item = JSON.parse(text ?? "");
    return item.client_id && item.target && item.content ? { ...item, state: "queued" } : null;
  } catch {
    return null;
  }
}
