/**
 * A conversation's line in the list: unread count, last message, title. It includes all entries up to `last_seq`; later entries update
 * it one by one, and `sync` replaces it. Pure, except that it changes the conversation passed to it.
 *
 * @typedef {import("./store.js").Conversation} Conversation
 * @typedef {import("./types.js").Entry} Entry
 */

/** The maximum length of a message in the list, in characters; the same as in `sync`. */
const PREVIEW_CHARACTERS = 200;

/**
 * @param {Conversation} conversation
 * @param {Entry} entry the next one of its log
 * @param {string} me
 */
export function applyToSummary(conversation, entry, me) {
  if (entry.seq <= conversation.last_seq) return;
  conversation.last_seq = entry.seq;
  switch (entry.type) {
    case "message":
      onMessage(conversation, entry, me);
      break;
    case "message_updated":
      if (conversation.last_message && conversation.last_message.seq === entry.target_seq) {
        conversation.last_message = { ...conversation.last_message, text: entry.deleted ? "" : previewOf(entry) };
      }
      break;
    case "membership": {
      const { added, removed, roles } = /** @type {{added?: string[], removed?: string[], roles?: Record<string, string>}} */ (
        /** @type {unknown} */ (entry)
      );
      conversation.members_count += (added?.length ?? 0) - (removed?.length ?? 0);
      conversation.role = roles?.[me] ?? conversation.role;
      break;
    }
    case "conversation_updated":
      conversation.title = entry.title ?? conversation.title;
      break;
  }
}

/**
 * Takes the summary in a `sync`. Counts older than the known ones are ignored; what the user has read here stays read.
 * @param {Conversation} conversation
 * @param {any} fields
 * @returns {boolean} whether the server's read cursor is behind this page's, and must be sent again
 */
export function replaceSummary(conversation, fields) {
  const { kind, title, peer, role, delivery, created_at, members_count } = fields;
  Object.assign(conversation, { kind, title: title ?? "", peer, role, delivery, created_at });
  const behind = fields.read_seq < conversation.read_seq;
  if (fields.last_seq < conversation.last_seq) return behind;
  const { last_seq, mentioned_seq, last_message } = fields;
  Object.assign(conversation, { last_seq, mentioned_seq, last_message, members_count });
  conversation.unread = conversation.read_seq >= last_seq ? 0 : fields.unread;
  conversation.read_seq = Math.max(conversation.read_seq, fields.read_seq);
  return behind;
}

/**
 * The user read everything up to `seq` on this page.
 * @param {Conversation} conversation
 * @param {number} seq the newest message's
 */
export function markRead(conversation, seq) {
  conversation.read_seq = Math.max(conversation.read_seq, seq);
  conversation.unread = 0;
}

/**
 * @param {Conversation} conversation
 * @param {Entry} entry
 * @param {string} me
 */
function onMessage(conversation, entry, me) {
  const { seq, timestamp } = entry;
  const from = /** @type {string} */ (entry.from);
  conversation.last_message = { seq, from, text: previewOf(entry), timestamp };
  if (from === me) markRead(conversation, seq);
  else if (seq > conversation.read_seq) conversation.unread += 1;
  if (entry.content?.mentions?.includes(me)) conversation.mentioned_seq = seq;
}

/** @param {Entry} entry */
function previewOf({ content }) {
  return (content?.text ?? "").slice(0, PREVIEW_CHARACTERS);
}
