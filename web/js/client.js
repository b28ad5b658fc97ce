/**
 * The chat client without its page: connects the parts (connection, conversations, outbox, receipts, presence, typing), passes each
 * frame to the part that handles it, and offers the user's actions. The views use only this.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 */
import { CatchUp } from "./catchup.js";
import { Connection } from "./connection.js";
import { Outbox } from "./outbox.js";
import { Presence } from "./presence.js";
import { Receipts } from "./receipts.js";
import { currentSession, deviceId, instanceId, newInstanceId, randomId, signIn } from "./session.js";
import { Store, targetOf } from "./store.js";
import { bytesOf, mentionsIn } from "./text.js";
import { Typing } from "./typing.js";

export class Client {
  /**
   * @param {string} me
   * @param {{onMessages: (conversation: Conversation, messages: import("./types.js").Entry[]) => void, onRemoved: (conversation: Conversation) => void}} events
   */
  constructor(me, events) {
    this.store = new Store(me);
    this.connection = new Connection({
      url: new URL("/v1/ws", location.href.replace(/^http/, "ws")).href,
      device_id: deviceId(),
      instance_id: instanceId(),
      token: (fresh) => token(me, fresh),
      onState: (state) => {
        this.store.connection = state;
        this.store.changed();
      },
      onReady: (ready) => this.#ready(ready),
      onLost: () => this.#lost(),
      onFrame: (frame) => this.#frames[frame.type]?.(frame),
    });
    this.receipts = new Receipts(this.store, this.connection);
    this.presence = new Presence(this.store, this.connection);
    this.typing = new Typing(this.store, this.connection);
    this.outbox = new Outbox({
      storage: localStorage,
      user: me,
      send: (frame) => this.connection.request(/** @type {any} */ (frame)),
      lastSeq: (target) => this.#conversationOf(target)?.log.head ?? 0,
      onSent: (sent, item) => this.#sent(sent, item),
      onChange: () => this.store.changed(),
      makeId: randomId,
      now: Date.now,
      later: (run, delay_ms) => setTimeout(run, delay_ms),
    });
    this.catchUp = new CatchUp({ ...this, ...events });
  }

  start() {
    this.connection.start();
  }

  /** Continues in this tab although another one uses its storage. */
  useThisTab() {
    this.connection.restartAs(newInstanceId());
  }

  /**
   * @param {string} text
   * @returns {string | null} why it can't be sent
   */
  send(text) {
    const { target } = this;
    if (!target) return "Choose a conversation first.";
    const content = this.#content(text);
    if (bytesOf(JSON.stringify(content)) > this.store.content_bytes_max) return "This message is too long.";
    if (!this.outbox.add(target, content)) return "Too many messages are waiting to be sent.";
    this.typing.sent();
    return null;
  }

  /** @returns {import("./outbox.js").Item[]} messages of the conversation in view that its log does not show yet */
  get waiting() {
    const { target } = this;
    return target ? this.outbox.for(target) : [];
  }

  /** @param {Conversation} conversation @param {number} seq @param {string} text */
  async edit(conversation, seq, text) {
    await this.#act(conversation, { type: "edit", seq, content: this.#content(text) });
  }

  /** @param {Conversation} conversation @param {number} seq */
  async remove(conversation, seq) {
    await this.#act(conversation, { type: "delete", seq });
  }

  /** @param {Conversation} conversation @param {number} seq @param {string} emoji @param {boolean} on */
  async react(conversation, seq, emoji, on) {
    await this.#act(conversation, { type: on ? "react" : "unreact", seq, emoji });
  }

  /**
   * @param {string} client_id the same for every attempt
   * @param {string} title
   * @param {string[]} members
   * @returns {Promise<Conversation>}
   */
  async createGroup(client_id, title, members) {
    const fields = await this.connection.request({ type: "conversation_create", kind: "group", client_id, title: title || undefined, members });
    return this.catchUp.learn({ mentioned_seq: 0, last_message: null, ...fields });
  }

  /** @param {Conversation} conversation @param {string} title */
  async rename(conversation, title) {
    await this.#act(conversation, { type: "conversation_update", title });
  }

  /** @param {Conversation} conversation @param {string[]} user_ids */
  async addMembers(conversation, user_ids) {
    await this.#act(conversation, { type: "member_add", user_ids });
  }

  /** @param {Conversation} conversation @param {string} user_id also one's own: leaving */
  async removeMember(conversation, user_id) {
    await this.#act(conversation, { type: "member_remove", user_ids: [user_id] });
  }

  /** @param {Conversation} conversation @param {string} user_id @param {string} role */
  async setRole(conversation, user_id, role) {
    await this.#act(conversation, { type: "member_role", user_id, role });
  }

  /** Everything in the conversation in view has been seen. */
  seen() {
    const { current, me } = this.store;
    const last = current?.log.messages.findLast(({ from }) => from !== me);
    if (current && last && (last.seq > current.read_seq || current.unread > 0)) {
      this.receipts.read(current, Math.max(last.seq, current.read_seq));
    }
  }

  /** @returns {import("./outbox.js").Target | null} the destination of a message; a draft keeps it when it becomes a conversation */
  get target() {
    const { current, selected } = this.store;
    if (current) return targetOf(current);
    return selected.kind === "draft" ? { to: selected.peer } : null;
  }

  /** @param {string} text */
  #content(text) {
    const { current } = this.store;
    const mentions = mentionsIn(text, (name) => current?.members?.has(name) ?? false);
    return mentions.length > 0 ? { text, mentions } : { text };
  }

  /** @param {Conversation} conversation @param {{type: string} & Record<string, unknown>} frame */
  async #act(conversation, frame) {
    this.catchUp.acted(conversation, await this.connection.request({ ...frame, conversation_id: conversation.id }));
  }

  /** @param {import("./outbox.js").Target} target */
  #conversationOf(target) {
    return "to" in target ? this.store.directWith(target.to) : this.store.conversations.get(target.conversation_id);
  }

  /** @param {any} ready */
  #ready(ready) {
    this.store.content_bytes_max = ready.limits.content_bytes;
    this.catchUp.ready(ready);
    this.presence.online();
    this.receipts.online();
    this.outbox.online();
  }

  #lost() {
    this.outbox.offline();
    this.catchUp.lost();
    this.presence.lost();
    this.typing.lost();
    this.store.changed();
  }

  /**
   * For the sending session, `sent` counts as the entry.
   * @param {any} sent
   * @param {import("./outbox.js").Item} item
   */
  #sent({ conversation_id, seq, timestamp, client_id }, { content }) {
    this.catchUp.entry({ type: "message", conversation_id, seq, timestamp, client_id, from: this.store.me, content });
  }

  /** @type {Record<string, (frame: any) => void>} */
  #frames = {
    message: (frame) => this.catchUp.entry(frame),
    message_updated: (frame) => this.catchUp.entry(frame),
    reaction: (frame) => this.catchUp.entry(frame),
    membership: (frame) => this.catchUp.entry(frame),
    conversation_updated: (frame) => this.catchUp.entry(frame),
    conversation_activity: (frame) => this.catchUp.activity(frame),
    resync: () => this.catchUp.refresh(),
    cursor: (frame) => this.catchUp.cursor(frame),
    delivery_receipt: (frame) => this.receipts.onDelivered(frame),
    read_receipt: (frame) => this.receipts.onRead(frame),
    receipts: (frame) => this.receipts.onReceipts(frame),
    receipt_counts: (frame) => this.receipts.onCounts(frame),
    read_marker: (frame) => this.receipts.onReadMarker(frame),
    presence: (frame) => this.presence.onPresence(frame),
    presence_state: (frame) => this.presence.onPresence(frame),
    typing_start: (frame) => this.typing.onStart(frame),
    typing_stop: (frame) => this.typing.onStop(frame),
  };
}

/**
 * @param {string} me
 * @param {boolean} fresh
 */
async function token(me, fresh) {
  const session = currentSession();
  if (!fresh && session?.user_id === me) return session.token;
  return (await signIn(me)).token;
}
