/**
 * The page's copy of a conversation's log: PROTOCOL §3's rule, and nothing else. No socket, no clock, no DOM.
 *
 * Entries are applied in the order of `seq`; known ones are ignored; an entry that comes too early waits, and the log reports that it
 * is `behind` until `changes` has filled the gap. Live frames, `sent`, `sync`, `changes` and `history` may race in any way.
 *
 * @typedef {import("./types.js").Entry} Entry
 * @typedef {import("./types.js").Message} Message
 */

/** Entries that may wait for earlier ones. If there is no room, an entry is fetched later by `changes`. */
const WAITING_MAX = 500;
/** Membership and settings entries kept to be shown between the messages. */
const NOTICES_MAX = 200;

export class Log {
  /** Every entry up to here has been applied. */
  seq = 0;
  /** The highest entry known to exist. */
  head = 0;
  /** Whether `messages` holds the newest part of the conversation. Otherwise only the position is kept. */
  loaded = false;
  /** Whether `history` has messages before the first of `messages`. */
  older = false;
  /** @type {Message[]} in the order of seq; a changed message is a new object */
  messages = [];
  /** @type {Entry[]} membership and settings entries seen live, in the order of seq */
  notices = [];
  /** @type {Map<number, Entry>} entries beyond a hole */
  #waiting = new Map();

  /** @param {string} me the signed-in user, whose own reactions are marked */
  constructor(me) {
    this.me = me;
  }

  /** Whether there are entries to request by `changes` after `seq`. */
  get behind() {
    return this.head > this.seq;
  }

  /**
   * Takes an entry from any source. `sent` is passed here as the `message` that it acknowledges.
   * @param {Entry} entry
   * @returns {Entry[]} the entries applied now: none, this one, or this one and those that waited for it
   */
  receive(entry) {
    this.expect(entry.seq);
    if (entry.seq <= this.seq) return [];
    if (this.#waiting.size < WAITING_MAX || entry.seq === this.seq + 1) this.#waiting.set(entry.seq, entry);
    return this.#applyInOrder();
  }

  /**
   * Records that an entry exists, without having it.
   * @param {number} seq
   */
  expect(seq) {
    this.head = Math.max(this.head, seq);
  }

  /**
   * Takes the answer to `changes` after `seq`. With `reset`, everything is forgotten and `history` must be requested.
   * @param {{entries: Entry[], last_seq: number, reset?: boolean}} answer
   * @returns {Entry[]} what was applied now
   */
  changes(answer) {
    this.expect(answer.last_seq);
    if (answer.reset) {
      this.forget();
      return [];
    }
    return answer.entries.flatMap((entry) => this.receive(entry));
  }

  /**
   * Begins with the newest page of `history`. A page that is older than what came live in the meantime takes the log back to its own
   * position: the entries in between are then fetched again.
   * @param {{messages: Message[], last_seq: number, more: boolean}} page
   * @returns {Entry[]} what was applied now
   */
  start(page) {
    this.expect(page.last_seq);
    this.seq = page.last_seq;
    this.loaded = true;
    this.older = page.more;
    this.messages = page.messages.map((message) => asOf(message, page.last_seq));
    this.#dropWaiting();
    return this.#applyInOrder();
  }

  /**
   * Puts a page of older messages in front.
   * @param {{messages: Message[], last_seq: number, more: boolean}} page `history` before the first message
   * @returns {boolean} false if the page is older than the log, and must be requested again: it lacks changes applied since
   */
  prepend(page) {
    this.expect(page.last_seq);
    if (page.last_seq < this.seq) return false;
    const first = this.messages.length > 0 ? this.messages[0].seq : Infinity;
    const older = page.messages.filter((message) => message.seq < first).map((message) => asOf(message, page.last_seq));
    this.messages = [...older, ...this.messages];
    this.older = page.more;
    return true;
  }

  /** Drops the content. Without content nothing can be stale, so the position is the newest known one. */
  forget() {
    this.loaded = false;
    this.older = false;
    this.messages = [];
    this.notices = [];
    this.skipTo(this.head);
  }

  /**
   * Advances an unloaded log to a position whose summary is known from `sync`.
   * @param {number} seq
   * @returns {Entry[]} what was applied now: entries that waited just behind it
   */
  skipTo(seq) {
    this.expect(seq);
    if (this.loaded || seq < this.seq) return [];
    this.seq = seq;
    this.#dropWaiting();
    return this.#applyInOrder();
  }

  /**
   * Drops the oldest messages, so that a conversation that is out of view costs little.
   * @param {number} keep how many stay
   */
  trim(keep) {
    if (this.messages.length <= keep) return;
    this.messages = this.messages.slice(-keep);
    this.older = true;
  }

  #dropWaiting() {
    for (const seq of this.#waiting.keys()) if (seq <= this.seq) this.#waiting.delete(seq);
  }

  /** @returns {Entry[]} */
  #applyInOrder() {
    const applied = [];
    for (let entry; (entry = this.#waiting.get(this.seq + 1)) !== undefined; ) {
      this.#waiting.delete(entry.seq);
      this.seq = entry.seq;
      if (this.loaded) this.#apply(entry);
      applied.push(entry);
    }
    return applied;
  }

  /** @param {Entry} entry */
  #apply(entry) {
    switch (entry.type) {
      case "message":
        this.messages = [...this.messages, asOf(/** @type {Message} */ (/** @type {unknown} */ (entry)), entry.seq)];
        break;
      case "message_updated":
        this.#change(entry, (message) => updated(message, entry));
        break;
      case "reaction":
        this.#change(entry, (message) => ({ ...message, reactions: reacted(message.reactions, entry, this.me) }));
        break;
      case "membership":
      case "conversation_updated":
        this.notices = [...this.notices, entry].slice(-NOTICES_MAX);
        break;
    }
  }

  /**
   * Changes the message that an entry names, unless it isn't here or its copy is newer than the entry: history shows the current
   * state of messages, so a page may already include what arrives live a moment later.
   * @param {Entry} entry
   * @param {(message: Message) => Message} change
   */
  #change(entry, change) {
    const at = this.messages.findIndex((message) => message.seq === entry.target_seq);
    if (at < 0 || this.messages[at].as_of >= entry.seq) return;
    this.messages = this.messages.with(at, change(this.messages[at]));
  }
}

/**
 * @param {Message} message
 * @param {number} seq
 * @returns {Message}
 */
function asOf(message, seq) {
  return { ...message, reactions: message.reactions ?? [], as_of: seq };
}

/**
 * @param {Message} message
 * @param {Entry} entry `message_updated`
 * @returns {Message}
 */
function updated(message, entry) {
  if (!entry.deleted) return { ...message, content: entry.content, edited_at: entry.timestamp };
  const { content: _, ...rest } = message;
  return { ...rest, deleted: true };
}

/**
 * @param {import("./types.js").Reaction[]} reactions
 * @param {Entry} entry `reaction`
 * @param {string} me
 */
function reacted(reactions, entry, me) {
  const known = reactions.some((reaction) => reaction.emoji === entry.emoji);
  const all = known ? reactions : [...reactions, { emoji: /** @type {string} */ (entry.emoji), count: 0, me: false }];
  return all
    .map((reaction) => {
      if (reaction.emoji !== entry.emoji) return reaction;
      const mine = entry.user_id === me ? entry.added === true : reaction.me;
      return { ...reaction, count: reaction.count + (entry.added ? 1 : -1), me: mine };
    })
    .filter((reaction) => reaction.count > 0);
}
