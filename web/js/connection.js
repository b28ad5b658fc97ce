/**
 * Keeps one session alive: opens a link, reconnects when it breaks, renews the token before it expires, moves when the server asks.
 * Owns the links and their timers. It does not interpret frames.
 *
 * @typedef {{phase: "connecting"|"online"|"waiting"|"stopped", why: string, retry_at?: number, code?: number}} State
 *
 * @typedef {object} Options
 * @property {string} url
 * @property {string} device_id
 * @property {string} instance_id
 * @property {(fresh: boolean) => Promise<string>} token rejects with {refused: true} if a retry would not help
 * @property {(state: State) => void} onState
 * @property {(ready: any) => void} onReady a session is ready; what the page shows must catch up
 * @property {() => void} onLost the session is gone, and with it every unanswered request
 * @property {(frame: any) => void} onFrame
 */
import { Link, RequestError } from "./link.js";
import { afterClose, backoffMs } from "./reconnect.js";

/** Until the server has sent its own. */
const RECONNECT = { min_ms: 500, max_ms: 30_000 };
/** A session that lived this long counts as recovered: the next break starts at the shortest wait. */
const STABLE_MS = 10_000;
/** The token is renewed this long before it expires, or after three quarters of a short lifetime. */
const RENEW_BEFORE_MS = 60_000;
/** The maximum of a browser's timer. */
const TIMER_MAX_MS = 2 ** 31 - 1;

export class Connection {
  /** @type {Link | null} the session in use */
  #link = null;
  /** @type {Link | null} the one being opened */
  #next = null;
  #attempt = 0;
  #readyAt = 0;
  #freshToken = false;
  #bounds = RECONNECT;
  /** @type {number | undefined} */
  #retry;
  /** @type {number | undefined} */
  #renewal;
  /** @type {number | undefined} */
  #move;

  /** @param {Options} options */
  constructor(options) {
    this.#options = options;
  }
  #options;

  start() {
    void this.#open(this.#options.url);
  }

  /** Ends the session for good. */
  stop() {
    clearTimeout(this.#retry);
    this.#lose();
    this.#next?.close();
    this.#next = null;
    this.#set({ phase: "stopped", why: "Signed out." });
  }

  /** Cuts a wait short. */
  retryNow() {
    if (this.#retry === undefined) return;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    void this.#open(this.#options.url);
  }

  /**
   * Continues beside the tab that took over this session.
   * @param {string} instance_id
   */
  restartAs(instance_id) {
    this.#options.instance_id = instance_id;
    this.start();
  }

  get online() {
    return this.#link !== null;
  }

  /**
   * @param {import("./link.js").Frame} frame
   * @returns {Promise<any>} the answer; rejects with a RequestError
   */
  request(frame) {
    return this.#link?.request(frame) ?? Promise.reject(new RequestError({ code: "disconnected", message: "You are offline." }));
  }

  /**
   * Sends a frame that may be lost.
   * @param {import("./link.js").Frame} frame
   */
  send(frame) {
    this.#link?.send(frame);
  }

  /** @param {string} url */
  async #open(url) {
    if (!this.#link) this.#set({ phase: "connecting", why: "Connecting…" });
    let token;
    try {
      token = await this.#options.token(this.#freshToken);
    } catch (error) {
      const { refused, message } = /** @type {{refused?: boolean, message: string}} */ (error);
      if (refused) this.#set({ phase: "stopped", why: message, code: 4401 });
      else this.#comeBack({ code: 1006 });
      return;
    }
    const { device_id, instance_id } = this.#options;
    const link = new Link(
      { url, token, device_id, instance_id },
      {
        onReady: (ready) => this.#ready(link, ready),
        onFrame: (frame) => link === this.#link && this.#frame(frame),
        onEnd: (end) => this.#ended(link, end),
      },
    );
    this.#next = link;
  }

  /**
   * @param {Link} link
   * @param {any} ready
   */
  #ready(link, ready) {
    this.#lose();
    this.#link = link;
    this.#next = null;
    this.#readyAt = Date.now();
    this.#freshToken = false;
    this.#bounds = ready.reconnect;
    this.#renewIn(Date.parse(ready.expires_at) - Date.parse(ready.server_time));
    this.#set({ phase: "online", why: "Connected." });
    this.#options.onReady(ready);
  }

  /** @param {any} frame */
  #frame(frame) {
    if (frame.type !== "reconnect") return this.#options.onFrame(frame);
    clearTimeout(this.#move);
    this.#move = setTimeout(() => void this.#open(frame.url ?? this.#options.url), frame.after_ms);
  }

  /**
   * @param {Link} link
   * @param {{code: number, retry_after_ms?: number}} end
   */
  #ended(link, end) {
    if (link === this.#next) {
      this.#next = null;
      // While the old session still works, a failed move changes nothing: its end makes the page reconnect.
      if (this.#link) return;
    } else {
      this.#lose();
      // The session that replaces this one is already on its way.
      if (this.#next) return this.#set({ phase: "connecting", why: "Connecting…" });
    }
    this.#comeBack(end);
  }

  /** @param {{code: number, retry_after_ms?: number}} end */
  #comeBack({ code, retry_after_ms }) {
    const { then, why } = afterClose(code);
    if (then === "never") return this.#set({ phase: "stopped", why, code });
    if (then === "new_token") this.#freshToken = true;
    if (this.#readyAt > 0 && Date.now() - this.#readyAt >= STABLE_MS) this.#attempt = 0;
    this.#readyAt = 0;
    const delay_ms = Math.max(backoffMs(this.#bounds, this.#attempt++, Math.random), retry_after_ms ?? 0);
    this.#set({ phase: "waiting", why, retry_at: Date.now() + delay_ms });
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.retryNow(), delay_ms);
  }

  /** @param {number} lifetime_ms of the token in use */
  #renewIn(lifetime_ms) {
    const delay_ms = lifetime_ms - Math.min(RENEW_BEFORE_MS, lifetime_ms / 4);
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => void this.#renew(), Math.min(delay_ms, TIMER_MAX_MS));
  }

  /** A failed renewal is ignored: the session ends with 4401, and the reconnect fetches a token too. */
  async #renew() {
    try {
      const token = await this.#options.token(true);
      const began = Date.now();
      const { expires_at } = await this.request({ type: "auth", token });
      this.#renewIn(Date.parse(expires_at) - began);
    } catch {
      this.#freshToken = true;
    }
  }

  #lose() {
    clearTimeout(this.#renewal);
    clearTimeout(this.#move);
    const had = this.#link;
    this.#link = null;
    had?.close();
    if (had) this.#options.onLost();
  }

  /** @param {State} state */
  #set(state) {
    this.#options.onState(state);
  }
}
