/**
 * What a conversation's view shows, from top to bottom: days, the unread line, notices, messages, and unsent ones. Pure.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./types.js").Message} Message
 *
 * @typedef {"queued"|"sending"|"failed"|"unknown"|"sent"|"delivered"|"read"} Progress
 *
 * @typedef {object} MessageRow
 * @property {"message"} kind
 * @property {string} key
 * @property {number | null} seq null while it is unsent
 * @property {string | null} client_id of an unsent message
 * @property {string} from
 * @property {string} timestamp
 * @property {import("./types.js").Content | undefined} content
 * @property {boolean} edited
 * @property {boolean} deleted
 * @property {import("./types.js").Reaction[]} reactions
 * @property {boolean} mine
 * @property {boolean} follows whether it continues the message above: same sender, a moment later
 * @property {boolean} named whether to show the sender's name
 * @property {Progress | null} progress of an own message
 * @property {string} progressText
 *
 * @typedef {MessageRow | {kind: "day"|"notice"|"unread", key: string, text: string}} Row
 */
import { dayOf, listNames, plural } from "./text.js";

/** Messages of one sender within this time are grouped. */
const TOGETHER_MS = 5 * 60_000;
const UNREAD_KEY = "unread";
/** Progress of a message that the server has not acknowledged. */
const WAITING_TEXT = {
  queued: "Waiting for the connection",
  sending: "Sending",
  sent: "Sent",
  unknown: "It is not known whether this was sent",
  failed: "Not sent",
};

/**
 * @param {Conversation | undefined} conversation
 * @param {import("./outbox.js").Item[]} waiting
 * @param {string} me
 * @param {{from: number, to: number}} unread the entries that were new when the view was opened: after `from`, up to `to`
 * @returns {Row[]}
 */
export function timeline(conversation, waiting, me, unread) {
  const reached = conversation ? receiptsOf(conversation, me) : null;
  const named = conversation?.kind === "group";
  const entries = [...(conversation?.log.messages ?? []), ...(conversation?.log.notices ?? [])].sort((a, b) => a.seq - b.seq);
  /** @type {Row[]} */
  const rows = [];
  let unreadShown = false;
  for (const entry of entries) {
    pushDay(rows, entry.timestamp);
    if ("type" in entry && entry.type !== "message") {
      rows.push({ kind: "notice", key: `notice:${entry.seq}`, text: noticeText(/** @type {any} */ (entry), me) });
      continue;
    }
    const message = /** @type {Message} */ (entry);
    if (!unreadShown && message.seq > unread.from && message.seq <= unread.to && message.from !== me) {
      unreadShown = true;
      rows.push({ kind: "unread", key: UNREAD_KEY, text: "New messages" });
    }
    rows.push(messageRow(message, rows.at(-1), me, named, reached));
  }
  for (const item of waiting) {
    pushDay(rows, item.written_at);
    rows.push(waitingRow(item, rows.at(-1), me));
  }
  return rows;
}

/** @typedef {(seq: number) => {progress: Progress, text: string}} Reached how far one's own messages got */

/**
 * @param {Conversation} conversation
 * @param {string} me
 * @returns {Reached}
 */
function receiptsOf({ members, counts, members_count, kind, delivery, log }, me) {
  const others = [...(members?.values() ?? [])].filter(({ user_id }) => user_id !== me);
  const everyone = members !== null && others.length > 0 && delivery === "full";
  const delivered = everyone ? Math.min(...others.map(({ delivered_seq }) => delivered_seq)) : 0;
  const read = everyone ? Math.min(...others.map(({ read_seq }) => read_seq)) : 0;
  const newest = log.messages.findLast(({ from }) => from === me)?.seq;
  return (seq) => {
    if (seq <= read) return { progress: "read", text: kind === "group" ? "Read by everyone" : "Read" };
    const progress = seq <= delivered ? "delivered" : "sent";
    const text = progress === "delivered" ? "Delivered" : "Sent";
    if (kind !== "group" || seq !== newest) return { progress, text };
    const readers = counts?.seq === seq ? counts.read : others.filter(({ read_seq }) => read_seq >= seq).length;
    return { progress, text: readers > 0 ? `Read by ${readers} of ${members_count - 1}` : text };
  };
}

/**
 * @param {Message} message
 * @param {Row | undefined} above
 * @param {string} me
 * @param {boolean} named
 * @param {Reached | null} reached
 * @returns {MessageRow}
 */
function messageRow({ seq, client_id, from, timestamp, content, edited_at, deleted = false, reactions }, above, me, named, reached) {
  const mine = from === me;
  const { progress, text } = mine && reached && !deleted ? reached(seq) : { progress: null, text: "" };
  const follows = continues(above, from, timestamp);
  return {
    ...{ kind: "message", key: mine && client_id ? `mine:${client_id}` : `seq:${seq}`, seq, client_id: null, from, timestamp, content },
    ...{ edited: edited_at !== undefined, deleted, reactions, mine, follows, named: named && !mine && !follows },
    ...{ progress, progressText: text },
  };
}

/** @type {import("./types.js").Reaction[]} */
const NO_REACTIONS = [];

/**
 * @param {import("./outbox.js").Item} item
 * @param {Row | undefined} above
 * @param {string} me
 * @returns {MessageRow}
 */
function waitingRow({ client_id, content, written_at, state, problem }, above, me) {
  const progressText = problem && state === "failed" ? `${WAITING_TEXT.failed}: ${problem}` : WAITING_TEXT[state];
  return {
    ...{ kind: "message", key: `mine:${client_id}`, seq: null, client_id, from: me, timestamp: written_at, content },
    ...{ edited: false, deleted: false, reactions: NO_REACTIONS, mine: true, follows: continues(above, me, written_at), named: false },
    ...{ progress: state, progressText },
  };
}

/**
 * @param {Row | undefined} above
 * @param {string} from
 * @param {string} timestamp
 */
function continues(above, from, timestamp) {
  if (above?.kind !== "message" || above.from !== from) return false;
  return Date.parse(timestamp) - Date.parse(above.timestamp) < TOGETHER_MS;
}

/**
 * @param {Row[]} rows
 * @param {string} timestamp
 */
function pushDay(rows, timestamp) {
  const text = dayOf(timestamp);
  const last = rows.findLast(({ kind }) => kind === "day");
  if (last?.kind !== "day" || last.text !== text) rows.push({ kind: "day", key: `day:${text}`, text });
}

/**
 * @param {{type: string, by?: string, added?: string[], removed?: string[], roles?: Record<string, string>, title?: string}} entry
 * @param {string} me
 */
function noticeText({ type, by, added, removed, roles, title }, me) {
  const name = (/** @type {string} */ user) => (user === me ? "you" : user);
  const names = (/** @type {string[]} */ users) => listNames(users.map(name));
  const who = by === me ? "You" : (by ?? "Someone");
  if (type === "conversation_updated") return title === undefined ? `${who} changed the settings` : `${who} renamed the group to “${title}”`;
  if (added?.length) return `${who} added ${names(added)}`;
  if (removed?.length) return removed.length === 1 && removed[0] === by ? `${who} left` : `${who} removed ${names(removed)}`;
  const [[user, role] = ["someone", "member"]] = Object.entries(roles ?? {});
  return `${who} made ${name(user)} ${role}`;
}

/** @param {Conversation} conversation @param {(user: string) => boolean} isThere @returns {string} the line under a group's name */
export function groupLine({ members, members_count }, isThere) {
  const there = [...(members?.keys() ?? [])].filter(isThere).length;
  return [plural(members_count, "member"), there > 0 ? `${there} online` : ""].filter(Boolean).join(", ");
}
