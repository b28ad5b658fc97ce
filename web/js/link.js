/**
 * One WebSocket: opens, authenticates, becomes ready, matches answers to requests, and ends once. Never reconnects: connection.js
 * does that.
 *
 * @typedef {{type: string, id?: string} & Record<string, unknown>} Frame
 *
 * @typedef {object} Handlers
 * @property {(ready: any) => void} onReady
 * @property {(frame: any) => void} onFrame frames that are not answers
 * @property {(end: {code: number, retry_after_ms?: number}) => void} onEnd
 */

/** From the first packet to `ready`. */
const READY_TIMEOUT_MS = 10_000;
/** A server that is silent for this long after a ping, or until the next one is due, counts as gone. */
const PONG_TIMEOUT_MS = 10_000;
/** A request fails if its answer takes longer; it may have been carried out. */
const ANSWER_TIMEOUT_MS = 20_000;
/** Unanswered requests. A page that reaches this limit has a bug. */
const PENDING_MAX = 1_000;

/** The error of a request: an `error` frame, or one of this page's own codes: `disconnected`, `timeout`. */
export class RequestError extends Error {
  /** @param {{code: string, message?: string, retry_after_ms?: number, details?: {field: string, message: string}[]}} error */
  constructor({ code, message, retry_after_ms, details }) {
    super(message ?? code);
    this.code = code;
    this.retry_after_ms = retry_after_ms;
    this.details = details;
  }
}

export class Link {
  /** @type {Map<string, {resolve: (answer: any) => void, reject: (error: RequestError) => void, timer: number}>} */
  #pending = new Map();
  #nextId = 1;
  #ended = false;
  /** @type {number | undefined} */
  #retry_after_ms;
  /** @type {number | undefined} */
  #heartbeat;
  /** @type {number | undefined} */
  #watchdog;

  /**
   * @param {{url: string, token: string, device_id: string, instance_id: string}} session
   * @param {Handlers} handlers
   */
  constructor(session, handlers) {
    this.#handlers = handlers;
    this.#socket = new WebSocket(session.url, "switchboard.v1.json");
    this.#socket.onopen = () => this.#authenticate(session);
    this.#socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    this.#socket.onclose = (event) => this.#end(event.code);
    this.#watchdog = setTimeout(() => this.#giveUp(), READY_TIMEOUT_MS);
  }
  #handlers;
  #socket;

  /**
   * Sends a frame that needs no answer.
   * @param {Frame} frame
   */
  send(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  /**
   * @param {Frame} frame
   * @returns {Promise<any>} the answer; rejects with a RequestError
   */
  request(frame) {
    if (this.#ended || this.#pending.size >= PENDING_MAX) return Promise.reject(new RequestError({ code: "disconnected" }));
    const id = String(this.#nextId++);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#answer(id)?.reject(new RequestError({ code: "timeout" })), ANSWER_TIMEOUT_MS);
      this.#pending.set(id, { resolve, reject, timer });
      this.send({ ...frame, id });
    });
  }

  /** Closes without `onEnd`: the owner knows. */
  close() {
    this.#finish();
    this.#socket.close(1000);
  }

  /** @param {{token: string, device_id: string, instance_id: string}} session */
  #authenticate({ token, device_id, instance_id }) {
    this.request({ type: "auth", token, device_id, instance_id }).then(
      (ready) => {
        clearTimeout(this.#watchdog);
        this.#watchdog = undefined;
        this.#heartbeat = setInterval(() => this.#ping(Math.min(PONG_TIMEOUT_MS, ready.heartbeat_ms)), ready.heartbeat_ms);
        this.#handlers.onReady(ready);
      },
      () => {
        // The server closes with the code that says why; the watchdog ends the wait for it.
      },
    );
  }

  /** @param {any} frame */
  #receive(frame) {
    if (this.#heartbeat !== undefined) {
      clearTimeout(this.#watchdog);
      this.#watchdog = undefined;
    }
    if (frame.type === "error") this.#retry_after_ms = frame.retry_after_ms;
    const request = frame.id === undefined ? undefined : this.#answer(frame.id);
    if (!request) this.#handlers.onFrame(frame);
    else if (frame.type === "error") request.reject(new RequestError(frame));
    else request.resolve(frame);
  }

  /** @param {string} id */
  #answer(id) {
    const request = this.#pending.get(id);
    clearTimeout(request?.timer);
    this.#pending.delete(id);
    return request;
  }

  /**
   * Any frame after the ping is a sign of life, and a throttled background tab is measured from its own ping.
   * @param {number} timeout_ms
   */
  #ping(timeout_ms) {
    this.send({ type: "ping", id: `ping-${this.#nextId++}` });
    this.#watchdog ??= setTimeout(() => this.#giveUp(), timeout_ms);
  }

  /** The close handshake of a dead peer would take a minute, so the end is not waited for. */
  #giveUp() {
    this.#socket.close();
    this.#end(1006);
  }

  /** @param {number} code */
  #end(code) {
    if (this.#ended) return;
    this.#finish();
    this.#handlers.onEnd({ code, retry_after_ms: this.#retry_after_ms });
  }

  #finish() {
    this.#ended = true;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    clearInterval(this.#heartbeat);
    clearTimeout(this.#watchdog);
    for (const id of [...this.#pending.keys()]) this.#answer(id)?.reject(new RequestError({ code: "disconnected" }));
  }
}
