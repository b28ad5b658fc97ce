/**
 * Notifications while no page is open: the user's permission, the service worker that shows them, and this browser's
 * registration with the server (docs/protocol.md, "Push").
 */
import { deviceId } from "./session.js";

const WORKER = "/push-worker.js";
/** Which users of this browser want notifications. */
const WANTED = "switchboard.push.";

/** @typedef {"unsupported" | "blocked" | "off" | "on"} PushState */

export class Push {
  /**
   * @param {string} me
   * @param {{token: () => string, open: (conversation_id: string) => void}} needs
   */
  constructor(me, needs) {
    this.#wanted = WANTED + me;
    this.#needs = needs;
    if (isSupported()) navigator.serviceWorker.addEventListener("message", ({ data }) => needs.open(data.conversation_id));
  }
  #wanted;
  #needs;
  /** The server's key. `null`: it sends none, or has not said yet. @type {string | null} */
  #key = null;

  /** @returns {PushState} */
  get state() {
    if (this.#key === null || !isSupported()) return "unsupported";
    if (Notification.permission === "denied") return "blocked";
    return Notification.permission === "granted" && localStorage.getItem(this.#wanted) !== null ? "on" : "off";
  }

  /** Checks whether the server sends notifications, and registers again: a subscription may have changed meanwhile. */
  async start() {
    if (!isSupported()) return;
    const answer = await this.#ask("GET", "/v1/push/web-push-key");
    if (!answer.ok) return;
    this.#key = (await answer.json()).data.key;
    if (this.state === "on") await this.#register();
  }

  /** Asks the user, and registers this browser. Must be called from a click handler. */
  async enable() {
    if ((await Notification.requestPermission()) !== "granted") throw new Error("The browser does not allow notifications for this page.");
    await this.#register();
    localStorage.setItem(this.#wanted, "");
  }

  /** The subscription stays: another user of this browser may want it. */
  async disable() {
    localStorage.removeItem(this.#wanted);
    await this.#ask("DELETE", `/v1/devices/${deviceId()}/push`);
  }

  async #register() {
    await navigator.serviceWorker.register(WORKER);
    const { pushManager } = await navigator.serviceWorker.ready;
    const applicationServerKey = /** @type {string} */ (this.#key);
    const known = await pushManager.getSubscription();
    // A subscription for another key is of no use: the server has a new one.
    if (known && encoded(known.options.applicationServerKey) !== applicationServerKey) await known.unsubscribe();
    const subscription = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
    const body = JSON.stringify({ provider: "web_push", subscription: subscription.toJSON() });
    const answer = await this.#ask("PUT", `/v1/devices/${deviceId()}/push`, body);
    if (!answer.ok) throw new Error((await answer.json()).error.message);
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {string} [body]
   */
  async #ask(method, path, body) {
    const authorization = `Bearer ${this.#needs.token()}`;
    return fetch(path, { method, body, headers: { authorization, ...(body && { "content-type": "application/json" }) } });
  }
}

function isSupported() {
  return "serviceWorker" in navigator && "PushManager" in window && "Notification" in window;
}

/** @param {ArrayBuffer | null} bytes @returns {string} base64url */
function encoded(bytes) {
  const text = String.fromCharCode(...new Uint8Array(bytes ?? new ArrayBuffer(0)));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
