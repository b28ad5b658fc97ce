/**
 * Keeps conversations up to date: feeds entries to their logs, and requests what is missing by `sync`, `changes` and `history`.
 * Owns which of these requests are under way, and what stays loaded. The rule itself is in log.js.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./types.js").Entry} Entry
 *
 * @typedef {object} Options
 * @property {import("./store.js").Store} store
 * @property {import("./connection.js").Connection} connection
 * @property {import("./outbox.js").Outbox} outbox
 * @property {import("./receipts.js").Receipts} receipts
 * @property {(conversation: Conversation, messages: Entry[]) => void} onMessages others' new messages
 * @property {(conversation: Conversation) => void} onRemoved the user is no longer a member
 */
import { applyToSummary, replaceSummary } from "./summary.js";
import { Sync } from "./sync.js";

const HISTORY_PAGE = 50;
const CHANGES_PAGE = 500;
/** Members known by name, receipts included: the first page of a large group. */
const MEMBERS_MAX = 1_000;
const RETRY_MS = 2_000;
/** How often a page of older messages is requested again because it was older than the log. */
const OLDER_TRIES_MAX = 5;
/** Messages kept of a conversation that is out of view, and conversations that keep any. */
const KEPT_MESSAGES = 200;
const LOADED_CONVERSATIONS_MAX = 20;

export class CatchUp {
  /** @type {string | undefined} */
  #store_id;
  /** @type {Set<string>} `changes:<conversation>` and the like: one request of a kind at a time */
  #underWay = new Set();
  /** @type {Conversation[]} loaded ones, the latest seen last */
  #loaded = [];

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
    this.#store = options.store;
    this.#connection = options.connection;
    this.#sync = new Sync(options.connection, {
      known: () => this.#store.conversations.keys(),
      onConversation: (fields) => this.learn(fields),
      onGone: (id) => this.#drop(id),
      onDone: () => this.#synced(),
    });
  }
  #options;
  #store;
  #connection;
  #sync;

  /**
   * A new session: everything may have changed.
   * @param {{store_id: string}} ready
   */
  ready({ store_id }) {
    if (this.#store_id !== undefined && this.#store_id !== store_id) {
      this.#sync.forget();
      this.#loaded = [];
      this.#options.outbox.forgetPositions();
      this.#options.receipts.forget();
      this.#store.forget();
    }
    this.#store_id = store_id;
    this.refresh();
    this.openCurrent();
  }

  /** The session is gone: no conversation is open any more, and requests will not be answered. */
  lost() {
    for (const conversation of this.#store.conversations.values()) conversation.opened = false;
  }

  /** @param {{cursor: string}} frame */
  cursor({ cursor }) {
    this.#sync.moveTo(cursor);
  }

  /** @param {Entry} entry */
  entry(entry) {
    const conversation = this.#store.conversations.get(entry.conversation_id);
    if (!conversation) return this.#heardOf(entry.conversation_id, entry.seq);
    this.#applied(conversation, conversation.log.receive(entry));
    this.#follow(conversation);
  }

  /**
   * There are entries that were not sent in full (PROTOCOL §3, "Large groups").
   * @param {{conversation_id: string, last_seq: number}} frame
   */
  activity({ conversation_id, last_seq }) {
    const conversation = this.#store.conversations.get(conversation_id);
    if (!conversation) return this.#heardOf(conversation_id, last_seq);
    conversation.log.expect(last_seq);
    if (follows(conversation)) this.#follow(conversation);
    else if (conversation.log.behind) this.refresh();
  }

  /**
   * Handles `ok {seq}` of an action of this session. It is the new entry's number if the action created one, but otherwise `last_seq`,
   * perhaps of somebody else's entry that has not arrived yet. So the entry itself is fetched.
   * @param {Conversation} conversation
   * @param {{seq: number}} ok
   */
  acted(conversation, { seq }) {
    conversation.log.expect(seq);
    this.#follow(conversation);
  }

  /** Requests a `sync`. */
  refresh() {
    this.#sync.ask();
  }

  /**
   * Adds or updates a conversation that the server has just sent.
   * @param {any} fields as in `conversation` or `sync`
   * @returns {Conversation}
   */
  learn(fields) {
    const id = fields.conversation_id;
    const conversation = this.#store.conversations.get(id) ?? blank(id, this.#store.newLog(id));
    this.#store.conversations.set(id, conversation);
    const unreadHere = replaceSummary(conversation, fields);
    const { log, last_message, unread } = conversation;
    if (log.loaded) log.expect(fields.last_seq);
    else this.#applied(conversation, log.skipTo(fields.last_seq));
    if (unreadHere) void this.#tellReadAgain(conversation);
    if (unread > 0 && last_message) this.#options.receipts.delivered(conversation, last_message.seq);
    this.#follow(conversation);
    this.#store.changed();
    return conversation;
  }

  /**
   * The last session ended before the server had processed what was read; its unread count is too high until it has.
   * @param {Conversation} conversation
   */
  async #tellReadAgain(conversation) {
    if (await this.#options.receipts.readAgain(conversation)) this.refresh();
  }

  /** @param {import("./store.js").Store["selected"]} selected */
  select(selected) {
    const left = this.#store.current;
    this.#store.selected = selected;
    if (left && left !== this.#store.current) this.#leave(left);
    this.openCurrent();
    this.#store.changed();
  }

  /** Opens the conversation in view, so that nothing of it is left out, and brings it up to date. */
  openCurrent() {
    const conversation = this.#store.current;
    if (!conversation || conversation.opened || !this.#connection.online) return;
    void this.#once(`open:${conversation.id}`, conversation, async () => {
      const { id } = conversation;
      const opened = await this.#connection.request({ type: "conversation_open", conversation_id: id });
      if (this.#store.current !== conversation) return this.#connection.send({ type: "conversation_close", conversation_id: id });
      conversation.opened = true;
      conversation.delivery = opened.delivery;
      conversation.log.expect(opened.last_seq);
      if (!conversation.log.loaded) await this.#load(conversation);
      this.#follow(conversation);
      await this.#loadMembers(conversation);
    });
  }

  /** @param {Conversation} conversation */
  async loadOlder(conversation) {
    const { log } = conversation;
    if (!log.loaded || !log.older) return;
    await this.#once(`older:${conversation.id}`, conversation, async () => {
      for (let attempt = 0; attempt < OLDER_TRIES_MAX && log.loaded; attempt++) {
        const page = await this.#request("history", conversation, { before: log.messages[0]?.seq, limit: HISTORY_PAGE });
        if (log.prepend(page)) break;
      }
      this.#store.changed();
    });
  }

  /** @param {Conversation} conversation */
  isLoadingOlder(conversation) {
    return this.#underWay.has(`older:${conversation.id}`);
  }

  /**
   * @param {string} conversation_id
   * @param {number} seq
   */
  #heardOf(conversation_id, seq) {
    const known = this.#store.unknown.get(conversation_id) ?? 0;
    this.#store.unknown.set(conversation_id, Math.max(known, seq));
    this.refresh();
  }

  #synced() {
    this.#store.unknown.clear();
    this.#store.listed = true;
    for (const conversation of this.#store.conversations.values()) this.#follow(conversation);
    this.openCurrent();
    this.#store.changed();
  }

  /** @param {Conversation} conversation */
  #follow(conversation) {
    const { log } = conversation;
    if (!log.behind || !follows(conversation) || !this.#connection.online) return;
    void this.#once(`changes:${conversation.id}`, conversation, async () => {
      while (log.behind && follows(conversation)) {
        const after = log.seq;
        const wasLoaded = log.loaded;
        const answer = await this.#request("changes", conversation, { after, limit: CHANGES_PAGE });
        this.#applied(conversation, log.changes(answer));
        if (answer.reset) {
          this.refresh();
          if (wasLoaded) await this.#load(conversation);
        } else if (log.seq === after) {
          throw Object.assign(new Error("no progress"), { code: "unavailable" });
        }
      }
    });
  }

  /** @param {Conversation} conversation */
  async #load(conversation) {
    const page = await this.#request("history", conversation, { limit: HISTORY_PAGE });
    const { log } = conversation;
    // The summary lacks the entries between its own position and the page's.
    if (page.last_seq > conversation.last_seq) this.refresh();
    this.#applied(conversation, log.start(page));
    for (const message of log.messages) this.#confirm(message);
    this.#options.outbox.settle(conversation.id, log.seq);
    this.#keepLoaded(conversation);
    this.#store.changed();
  }

  /** @param {Conversation} conversation */
  async #loadMembers(conversation) {
    const { members } = await this.#request("conversation_members", conversation, { limit: MEMBERS_MAX });
    const before = conversation.members;
    conversation.members = new Map(
      members.map((/** @type {import("./types.js").Member} */ member) => {
        const known = before?.get(member.user_id);
        const delivered_seq = Math.max(member.delivered_seq, known?.delivered_seq ?? 0);
        return [member.user_id, { ...member, delivered_seq, read_seq: Math.max(member.read_seq, known?.read_seq ?? 0) }];
      }),
    );
    this.#store.changed();
  }

  /**
   * @param {Conversation} conversation
   * @param {Entry[]} entries just applied to its log
   */
  #applied(conversation, entries) {
    if (entries.length === 0) return;
    const { me } = this.#store;
    const incoming = entries.filter((entry) => entry.type === "message" && entry.from !== me && entry.seq > conversation.last_seq);
    for (const entry of entries) {
      applyToSummary(conversation, entry, me);
      if (entry.type === "message") {
        conversation.typing.delete(/** @type {string} */ (entry.from));
        this.#confirm(entry);
      }
      if (entry.type === "membership") this.#membershipChanged(conversation, entry);
    }
    const last = incoming.at(-1);
    if (last) {
      this.#options.receipts.delivered(conversation, last.seq);
      this.#options.onMessages(conversation, incoming);
    }
    this.#store.changed();
  }

  /**
   * @param {Conversation} conversation
   * @param {Entry} entry
   */
  #membershipChanged(conversation, entry) {
    if (entry.removed?.includes(this.#store.me)) {
      this.#options.onRemoved(conversation);
      this.#drop(conversation.id);
    } else if (conversation.members) {
      void this.#once(`members:${conversation.id}:${entry.seq}`, conversation, () => this.#loadMembers(conversation));
    }
  }

  /** @param {{from?: string, client_id?: string}} message */
  #confirm({ from, client_id }) {
    if (from === this.#store.me && client_id) this.#options.outbox.confirm(client_id);
  }

  /** @param {Conversation} conversation */
  #leave(conversation) {
    if (conversation.opened) this.#connection.send({ type: "conversation_close", conversation_id: conversation.id });
    conversation.opened = false;
    conversation.log.trim(KEPT_MESSAGES);
  }

  /** @param {Conversation} conversation */
  #keepLoaded(conversation) {
    this.#loaded = [...this.#loaded.filter((other) => other !== conversation), conversation];
    if (this.#loaded.length > LOADED_CONVERSATIONS_MAX) this.#loaded.shift()?.log.forget();
  }

  /** @param {string} id */
  #drop(id) {
    this.#store.conversations.delete(id);
    this.#loaded = this.#loaded.filter((conversation) => conversation.id !== id);
    this.#store.changed();
  }

  /**
   * @param {string} type
   * @param {Conversation} conversation
   * @param {Record<string, unknown>} fields
   */
  #request(type, conversation, fields) {
    return this.#connection.request({ type, conversation_id: conversation.id, ...fields });
  }

  /**
   * Runs a request unless one of its kind is under way. Temporary failures are retried as long as the result still matters.
   * @param {string} key
   * @param {Conversation} conversation
   * @param {() => Promise<void>} run
   */
  async #once(key, conversation, run) {
    if (this.#underWay.has(key)) return;
    this.#underWay.add(key);
    this.#store.changed();
    try {
      await run();
    } catch (error) {
      const { code, retry_after_ms } = /** @type {import("./link.js").RequestError} */ (error);
      if (code === undefined) throw error;
      if (code === "not_found") this.#drop(conversation.id);
      else if (code !== "disconnected") setTimeout(() => this.#again(conversation), retry_after_ms ?? RETRY_MS);
    } finally {
      this.#underWay.delete(key);
      this.#store.changed();
    }
  }

  /** @param {Conversation} conversation */
  #again(conversation) {
    if (this.#store.conversations.get(conversation.id) !== conversation) return;
    if (!conversation.log.loaded || !conversation.members) conversation.opened = false;
    this.openCurrent();
    this.#follow(conversation);
  }
}

/**
 * Whether the server sends every entry of it, so that a gap means a loss.
 * @param {Conversation} conversation
 */
function follows({ delivery, opened }) {
  return delivery === "full" || opened;
}

/**
 * @param {string} id
 * @param {import("./log.js").Log} log
 * @returns {Conversation}
 */
function blank(id, log) {
  return {
    ...{ id, kind: "group", title: "", role: "member", delivery: "full", created_at: "", members_count: 0 },
    ...{ last_seq: 0, read_seq: 0, unread: 0, mentioned_seq: 0, last_message: null },
    ...{ log, opened: false, members: null, counts: null, typing: new Map() },
  };
}
