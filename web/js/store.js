/**
 * The page's state in one place: conversations, presence, the connection. Views read it and are notified, batched, of changes.
 *
 * @typedef {import("./types.js").Member} Member
 * @typedef {import("./types.js").LastMessage} LastMessage
 *
 * @typedef {object} Conversation
 * @property {string} id
 * @property {"direct"|"group"} kind
 * @property {string} title
 * @property {string} [peer] the other one of a direct conversation
 * @property {string} role
 * @property {"full"|"activity"} delivery
 * @property {string} created_at
 * @property {number} members_count
 * @property {number} last_seq the last entry that this summary includes
 * @property {number} read_seq
 * @property {number} unread
 * @property {number} mentioned_seq
 * @property {LastMessage | null} last_message
 * @property {Log} log
 * @property {boolean} opened whether the server sends this session all its entries
 * @property {Map<string, Member> | null} members
 * @property {{seq: number, delivered: number, read: number} | null} counts receipts of a large group's newest own message
 * @property {Map<string, number>} typing user → when to hide it, in milliseconds
 */
import { Log } from "./log.js";

export class Store {
  /** @type {Map<string, Conversation>} */
  conversations = new Map();
  /** @type {Map<string, number>} the newest known entry of conversations that no `sync` has returned yet */
  unknown = new Map();
  /** @type {Map<string, {status: import("./types.js").Status, last_seen_at?: string}>} */
  presence = new Map();
  /** @type {import("./connection.js").State} */
  connection = { phase: "connecting", why: "Connecting…" };
  /** Whether the list has been loaded once. */
  listed = false;
  /** @type {import("./types.js").Status} the status this user chose */
  status = "online";
  /** @type {{kind: "none"} | {kind: "conversation", id: string} | {kind: "draft", peer: string}} */
  selected = { kind: "none" };
  content_bytes_max = Infinity;

  #listeners = /** @type {Set<() => void>} */ (new Set());
  #announced = false;

  /** @param {string} me */
  constructor(me) {
    this.me = me;
  }

  /**
   * @param {() => void} listener
   * @returns {() => void} ends it
   */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Notifies the views, once for all changes until the next animation frame. A hidden tab has no frames, so a timer is used. */
  changed() {
    if (this.#announced) return;
    this.#announced = true;
    const tell = () => {
      if (!this.#announced) return;
      this.#announced = false;
      for (const listener of this.#listeners) listener();
    };
    requestAnimationFrame(tell);
    setTimeout(tell, 100);
  }

  /** @returns {Conversation | undefined} the conversation in view; a draft becomes one as soon as the peer's is known */
  get current() {
    const { selected } = this;
    if (selected.kind === "conversation") return this.conversations.get(selected.id);
    if (selected.kind === "draft") return this.directWith(selected.peer);
    return undefined;
  }

  /** @param {string} peer */
  directWith(peer) {
    return [...this.conversations.values()].find((conversation) => conversation.peer === peer);
  }

  /** @returns {Conversation[]} newest first */
  get list() {
    return [...this.conversations.values()].sort((a, b) => (lastActivity(a) < lastActivity(b) ? 1 : -1));
  }

  get unread() {
    return this.list.reduce((sum, { unread }) => sum + unread, 0);
  }

  /** @param {string} id */
  newLog(id) {
    const log = new Log(this.me);
    log.expect(this.unknown.get(id) ?? 0);
    this.unknown.delete(id);
    return log;
  }

  /** The server's store is a different one (PROTOCOL §2): nothing kept here is valid any more. */
  forget() {
    this.conversations.clear();
    this.unknown.clear();
    this.listed = false;
    this.changed();
  }
}

/** @param {Conversation} conversation */
function lastActivity({ last_message, created_at }) {
  return last_message ? last_message.timestamp : created_at;
}

/** @param {Pick<Conversation, "kind"|"title"|"peer">} conversation */
export function nameOf({ kind, title, peer }) {
  return kind === "direct" ? /** @type {string} */ (peer) : title || "Untitled group";
}

/** @param {Conversation} conversation @returns {import("./outbox.js").Target} */
export function targetOf({ id, kind, peer }) {
  return kind === "direct" && peer ? { to: peer } : { conversation_id: id };
}
