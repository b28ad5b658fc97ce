/**
 * The page's feed from the server: one session that watches one topic, again after each break. Owns the connection and the windows;
 * the views read them when they are notified of a change.
 *
 * @typedef {import("../connection.js").State} State
 * @typedef {{topic: string, window: import("./choice.js").WindowName, range_s: number}} Wish
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string} device_id
 * @property {string} instance_id
 * @property {(fresh: boolean) => Promise<string>} token
 * @property {() => void} onChange
 */
import { Connection } from "../connection.js";
import { Windows } from "./windows.js";

/** The delay before a refused watch is retried, if the server does not give one. */
const RETRY_MS = 2_000;

export class Feed {
  windows = new Windows();
  /** @type {State} */
  state = { phase: "connecting", why: "Connecting…" };
  /** Whether the data is complete: the requested state has arrived in this session. */
  isCurrent = false;
  /** Why there is nothing to show, if known. */
  problem = "";
  /** @type {Wish | null} */
  #wish = null;
  /** @type {number | undefined} */
  #retry;
  /** The latest `topic_state`, on which the windows are based. @type {object | null} */
  #state = null;
  /** The server's clock minus this machine's. */
  #ahead_ms = 0;

  /** @param {Options} options */
  constructor({ onChange, ...options }) {
    this.#onChange = onChange;
    this.connection = new Connection({
      ...options,
      onState: (state) => {
        this.state = state;
        onChange();
      },
      onReady: ({ server_time }) => {
        this.#ahead_ms = Date.parse(server_time) - Date.now();
        void this.#ask();
      },
      onLost: () => {
        clearTimeout(this.#retry);
        this.isCurrent = false;
      },
      onFrame: (frame) => this.#frame(frame),
    });
  }
  #onChange;

  start() {
    this.connection.start();
  }

  /** @returns {number} by the server's clock */
  get now_ms() {
    return Date.now() + this.#ahead_ms;
  }

  /**
   * Watches this from now on, instead of anything else.
   * @param {Wish} wish
   */
  watch(wish) {
    const before = this.#wish;
    const { topic, window, range_s } = wish;
    const isSame = before?.topic === topic && before.window === window;
    if (isSame && before.range_s === range_s) return;
    this.#wish = wish;
    this.problem = "";
    this.isCurrent = false;
    if (!isSame) {
      this.#state = null;
      this.windows = new Windows();
      if (before) this.connection.send({ type: "topic_unwatch", topic: before.topic, window: before.window });
    }
    void this.#ask();
    this.#onChange();
  }

  async #ask() {
    const wish = this.#wish;
    clearTimeout(this.#retry);
    if (!wish || !this.connection.online) return;
    try {
      const state = await this.connection.request({ type: "topic_watch", ...wish });
      if (wish === this.#wish) this.#onState(state);
    } catch (error) {
      if (wish === this.#wish) this.#failed(/** @type {import("../link.js").RequestError} */ (error));
    }
  }

  /** Temporary errors are retried; after a lost session, the new one asks again.
   * @param {import("../link.js").RequestError} error */
  #failed({ code, message, details, retry_after_ms }) {
    if (code === "disconnected") return;
    const isLasting = ["forbidden", "bad_request", "conflict"].includes(code);
    this.problem = isLasting ? (details?.[0]?.message ?? message) : `${message}: trying again.`;
    if (!isLasting) this.#retry = setTimeout(() => void this.#ask(), retry_after_ms ?? RETRY_MS);
    this.#onChange();
  }

  /** @param {any} frame */
  #frame(frame) {
    if (frame.type === "resync") return void this.#ask();
    if (frame.topic !== this.#wish?.topic || frame.window !== this.#wish?.window) return;
    if (frame.type === "topic_state") this.#onState(frame);
    else if (frame.type === "topic_update" && this.windows.onUpdate(frame)) this.#onChange();
  }

  /** @param {any} state */
  #onState(state) {
    this.#state = state;
    this.windows.onState(state);
    this.isCurrent = true;
    this.problem = "";
    this.#onChange();
    void this.#readBack(state);
  }

  /**
   * Requests what did not fit into a state, one answer at a time, newest first, until there is another state.
   * @param {any} state
   */
  async #readBack(state) {
    const wish = this.#wish;
    try {
      for (let last = state; last.more && !this.windows.isFull; ) {
        const before_ms = Math.min(...last.series.map((/** @type {{points: number[][]}} */ { points }) => points[0][0]));
        last = await this.connection.request({ type: "topic_watch", ...wish, before_ms });
        if (this.#state !== state) return;
        this.windows.onOlder(last);
        this.#onChange();
      }
    } catch (error) {
      if (this.#state === state) this.#failed(/** @type {import("../link.js").RequestError} */ (error));
    }
  }
}
