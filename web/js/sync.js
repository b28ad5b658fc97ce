/**
 * Runs `sync`, page by page. Owns the cursor and the round under way; the caller handles the answers.
 *
 * @typedef {object} Handlers
 * @property {() => Iterable<string>} known the conversations there are now
 * @property {(fields: any) => void} onConversation
 * @property {(id: string) => void} onGone
 * @property {() => void} onDone a round is complete
 */

const PAGE = 200;
/** The minimum interval between rounds, however often one is requested. */
const SPACING_MS = 500;
const RETRY_MS = 2_000;

export class Sync {
  /** @type {string | undefined} */
  #cursor;
  #running = false;
  #again = false;

  /**
   * @param {import("./connection.js").Connection} connection
   * @param {Handlers} handlers
   */
  constructor(connection, handlers) {
    this.#connection = connection;
    this.#handlers = handlers;
  }
  #connection;
  #handlers;

  /** Starts a round now, or right after the current one. */
  ask() {
    this.#again = true;
    if (!this.#running) void this.#untilQuiet();
  }

  /** @param {string} cursor a newer one that came unsolicited */
  moveTo(cursor) {
    this.#cursor = cursor;
  }

  /** The next round requests everything. */
  forget() {
    this.#cursor = undefined;
  }

  async #untilQuiet() {
    this.#running = true;
    try {
      while (this.#again && this.#connection.online) {
        this.#again = false;
        const wait_ms = await this.#round().then(() => SPACING_MS, (error) => this.#failed(error));
        if (this.#again) await new Promise((resolve) => setTimeout(resolve, wait_ms));
      }
    } finally {
      this.#running = false;
    }
  }

  /**
   * @param {import("./link.js").RequestError} error
   * @returns {number} how long to wait before the next round, in milliseconds
   */
  #failed(error) {
    if (error.code === undefined) throw error;
    // After a break, the next session asks again.
    if (error.code === "disconnected") return 0;
    if (error.code === "bad_request") this.#cursor = undefined;
    this.#again = true;
    return error.retry_after_ms ?? RETRY_MS;
  }

  /** The cursor moves on only with the last page: an interrupted round is repeated from its start. */
  async #round() {
    const before = [...this.#handlers.known()];
    const told = new Set();
    let whole = this.#cursor === undefined;
    let cursor = this.#cursor;
    for (let more = true; more; ) {
      const answer = await this.#connection.request({ type: "sync", cursor, limit: PAGE });
      whole ||= answer.reset === true;
      for (const fields of answer.conversations) {
        told.add(fields.conversation_id);
        if (fields.removed) this.#handlers.onGone(fields.conversation_id);
        else this.#handlers.onConversation(fields);
      }
      ({ cursor, more } = answer);
    }
    this.#cursor = cursor;
    if (whole) for (const id of before) if (!told.has(id)) this.#handlers.onGone(id);
    this.#handlers.onDone();
  }
}
