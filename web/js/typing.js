/**
 * Typing in both directions. Frames may be lost, so what is shown also expires by itself.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 */

/** The server lets one `typing_start` through each 2 s, and ends it 5 s after the last. */
const REPEAT_MS = 2_500;
const IDLE_MS = 4_000;
const SHOWN_MS = 7_000;

export class Typing {
  /** @type {Conversation | null} where this user is typing */
  #conversation = null;
  #toldAt = 0;
  /** @type {number | undefined} */
  #idle;

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

  /** @param {Conversation} conversation in which a key was pressed */
  typed(conversation) {
    if (this.#conversation !== conversation) this.stop();
    const now_ms = Date.now();
    if (this.#conversation !== conversation || now_ms - this.#toldAt >= REPEAT_MS) {
      this.#connection.send({ type: "typing_start", conversation_id: conversation.id });
      this.#toldAt = now_ms;
    }
    this.#conversation = conversation;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.stop(), IDLE_MS);
  }

  /** The text was cleared or left. */
  stop() {
    if (this.#conversation) this.#connection.send({ type: "typing_stop", conversation_id: this.#conversation.id });
    this.sent();
  }

  /** The server ends it by itself with a message. */
  sent() {
    clearTimeout(this.#idle);
    this.#conversation = null;
  }

  /** @param {{conversation_id: string, user_id: string}} frame */
  onStart({ conversation_id, user_id }) {
    const typing = this.#store.conversations.get(conversation_id)?.typing;
    if (!typing) return;
    const until_ms = Date.now() + SHOWN_MS;
    typing.set(user_id, until_ms);
    setTimeout(() => {
      if (typing.get(user_id) === until_ms) typing.delete(user_id);
      this.#store.changed();
    }, SHOWN_MS);
    this.#store.changed();
  }

  /** @param {{conversation_id: string, user_id: string}} frame */
  onStop({ conversation_id, user_id }) {
    this.#store.conversations.get(conversation_id)?.typing.delete(user_id);
    this.#store.changed();
  }

  /** Without a session nobody's typing is known. */
  lost() {
    for (const { typing } of this.#store.conversations.values()) typing.clear();
  }
}
