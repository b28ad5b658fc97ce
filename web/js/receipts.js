/**
 * Receipts in both directions: sends this user's cursors to the server, and records those of others.
 * Owns the unconfirmed cursors, which are sent again after a reconnect; only the highest counts.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 */
import { markRead } from "./summary.js";

/** Cursors are collected for this long, and at most this many are sent at once: well below any rate limit. */
const GATHER_MS = 150;
const BATCH = 5;
const RETRY_MS = 2_000;

export class Receipts {
  /** @type {Map<string, {delivered: number, read: number}>} by conversation: the cursors to be sent */
  #due = new Map();
  /** @type {Map<string, number>} by conversation: the highest cursor confirmed */
  #told = new Map();
  /** @type {number | undefined} */
  #timer;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./connection.js").Connection} connection
   */
  constructor(store, connection) {
    this.#store = store;
    this.#connection = connection;
  }
  #store;
  #connection;

  /**
   * @param {Conversation} conversation
   * @param {number} seq
   */
  delivered({ id, read_seq }, seq) {
    if (seq <= Math.max(this.#told.get(id) ?? 0, read_seq)) return;
    const due = this.#due.get(id);
    this.#due.set(id, { delivered: Math.max(seq, due?.delivered ?? 0), read: due?.read ?? 0 });
    this.#schedule();
  }

  /**
   * @param {Conversation} conversation
   * @param {number} seq the newest message that the user has seen
   */
  read(conversation, seq) {
    markRead(conversation, seq);
    const due = this.#due.get(conversation.id);
    this.#due.set(conversation.id, { delivered: due?.delivered ?? 0, read: Math.max(seq, due?.read ?? 0) });
    this.#schedule();
    this.#store.changed();
  }

  /**
   * Sends the read cursor again, because the server does not know it.
   * @param {Conversation} conversation
   * @returns {Promise<boolean>} whether it knows now
   */
  readAgain({ id, read_seq }) {
    return this.#tellOne(id, { delivered: 0, read: read_seq });
  }

  /** A session is ready: what the last one did not confirm is sent again. */
  online() {
    this.#schedule();
  }

  /** The server's store is a different one. */
  forget() {
    this.#due.clear();
    this.#told.clear();
  }

  /** @param {{conversation_id: string, read_seq: number, unread: number}} frame another session of this user read */
  onReadMarker({ conversation_id, read_seq, unread }) {
    const conversation = this.#store.conversations.get(conversation_id);
    if (!conversation || read_seq < conversation.read_seq) return;
    conversation.read_seq = read_seq;
    conversation.unread = read_seq >= conversation.last_seq ? 0 : unread;
    this.#store.changed();
  }

  /** @param {{conversation_id: string, seq: number, delivered_to: string}} frame */
  onDelivered({ conversation_id, seq, delivered_to }) {
    this.#note(conversation_id, delivered_to, seq, 0);
  }

  /** @param {{conversation_id: string, seq: number, read_by: string}} frame */
  onRead({ conversation_id, seq, read_by }) {
    this.#note(conversation_id, read_by, seq, seq);
  }

  /** @param {{conversation_id: string, users: {user_id: string, delivered_seq: number, read_seq: number}[]}} frame */
  onReceipts({ conversation_id, users }) {
    for (const { user_id, delivered_seq, read_seq } of users) this.#note(conversation_id, user_id, delivered_seq, read_seq);
  }

  /** @param {{conversation_id: string, seq: number, delivered: number, read: number}} frame */
  onCounts({ conversation_id, seq, delivered, read }) {
    const conversation = this.#store.conversations.get(conversation_id);
    if (conversation) conversation.counts = { seq, delivered, read };
    this.#store.changed();
  }

  /**
   * @param {string} conversation_id
   * @param {string} user
   * @param {number} delivered
   * @param {number} read
   */
  #note(conversation_id, user, delivered, read) {
    const members = this.#store.conversations.get(conversation_id)?.members;
    const member = members?.get(user);
    if (!members || !member) return;
    const read_seq = Math.max(member.read_seq, read);
    const delivered_seq = Math.max(member.delivered_seq, delivered, read_seq);
    members.set(user, { ...member, delivered_seq, read_seq });
    this.#store.changed();
  }

  #schedule(delay_ms = GATHER_MS) {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#tell();
    }, delay_ms);
  }

  #tell() {
    if (!this.#connection.online) return;
    for (const [id, due] of [...this.#due].slice(0, BATCH)) void this.#tellOne(id, due);
    if (this.#due.size > 0) this.#schedule();
  }

  /**
   * @param {string} id
   * @param {{delivered: number, read: number}} due
   * @returns {Promise<boolean>} whether the server confirmed it
   */
  async #tellOne(id, due) {
    this.#due.delete(id);
    const frame = due.read > 0 ? { type: "read", seq: due.read } : { type: "delivered", seq: due.delivered };
    try {
      await this.#connection.request({ ...frame, conversation_id: id });
      this.#told.set(id, Math.max(this.#told.get(id) ?? 0, frame.seq));
      return true;
    } catch (error) {
      const { code, retry_after_ms } = /** @type {import("./link.js").RequestError} */ (error);
      if (code === "not_found") return false;
      const since = this.#due.get(id);
      this.#due.set(id, { delivered: Math.max(due.delivered, since?.delivered ?? 0), read: Math.max(due.read, since?.read ?? 0) });
      this.#schedule(retry_after_ms ?? RETRY_MS);
      return false;
    }
  }
}
