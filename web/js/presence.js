/**
 * Presence: watches the users in view, and sets this user's own status. Owns what is watched in this session.
 */

/** The server's own limit, split between the list's peers and the members in view. */
const WATCHED_MAX = 500;
const WATCHED_PEERS_MAX = 300;
const GATHER_MS = 100;

export class Presence {
  /** @type {Set<string>} */
  #watched = new Set();
  /** @type {number | undefined} */
  #timer;

  /**
   * @param {import("./store.js").Store} store
   * @param {import("./connection.js").Connection} connection
   */
  constructor(store, connection) {
    this.#store = store;
    this.#connection = connection;
    store.onChange(() => this.#schedule());
  }
  #store;
  #connection;

  /** A session is ready: it watches nothing yet, and does not know the chosen status. */
  online() {
    this.#watched.clear();
    if (this.#store.status !== "online") this.#tellStatus();
    this.#schedule();
  }

  /** Without a session nobody's presence is known. */
  lost() {
    this.#store.presence.clear();
  }

  /** @param {import("./types.js").Status} status */
  set(status) {
    this.#store.status = status;
    this.#tellStatus();
    this.#store.changed();
  }

  /** @param {{users: {user_id: string, status: import("./types.js").Status, last_seen_at?: string}[]}} frame */
  onPresence({ users }) {
    for (const { user_id, status, last_seen_at } of users) this.#store.presence.set(user_id, { status, last_seen_at });
    this.#store.changed();
  }

  #tellStatus() {
    this.#connection.send({ type: "presence_set", status: this.#store.status });
  }

  #schedule() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.#watch();
    }, GATHER_MS);
  }

  async #watch() {
    if (!this.#connection.online) return;
    const wanted = this.#wanted();
    const added = [...wanted].filter((user) => !this.#watched.has(user));
    const removed = [...this.#watched].filter((user) => !wanted.has(user));
    this.#watched = wanted;
    if (removed.length > 0) this.#connection.send({ type: "presence_unwatch", user_ids: removed });
    for (const user of removed) this.#store.presence.delete(user);
    if (added.length === 0) return;
    try {
      this.onPresence(await this.#connection.request({ type: "presence_watch", user_ids: added }));
    } catch {
      // They are watched again with the next change, or the next session.
      for (const user of added) this.#watched.delete(user);
    }
  }

  /** @returns {Set<string>} */
  #wanted() {
    const { list, current, selected, me } = this.#store;
    const peers = list.flatMap(({ peer }) => peer ?? []).slice(0, WATCHED_PEERS_MAX);
    const members = [...(current?.members?.keys() ?? [])];
    const draft = selected.kind === "draft" ? [selected.peer] : [];
    const wanted = [...draft, ...peers, ...members].filter((user) => user !== me);
    return new Set([...new Set(wanted)].slice(0, WATCHED_MAX));
  }
}
