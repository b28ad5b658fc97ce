/**
 * The server's trace of a message (docs/protocol.md, "Trace"). Types only, no code.
 *
 * @typedef {object} TraceEvent
 * @property {string} at
 * @property {string} node_id
 * @property {string} step
 * @property {string} [user_id]
 * @property {string} [home_id]
 * @property {number} [users]
 * @property {string} [session_id]
 * @property {string} [device_id]
 * @property {number} [sessions]
 * @property {number} [up_to_seq]
 * @property {string} [until]
 * @property {string} [why]
 * @property {string} [provider]
 * @property {number} [count]
 * @property {string} [not_before]
 * @property {string} [reason]
 * @property {string} [again_at]
 *
 * @typedef {{user_id: string, outcome: string, why?: string, events: TraceEvent[]}} Recipient
 *
 * @typedef {object} Trace one page of it
 * @property {string} conversation_id
 * @property {number} seq
 * @property {string} message_id
 * @property {string} from
 * @property {string} stored_at
 * @property {TraceEvent[]} events that concern no particular recipient
 * @property {Recipient[]} recipients
 * @property {boolean} more
 */
export {};
