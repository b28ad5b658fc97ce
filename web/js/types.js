/**
 * The types shared by the modules, with the names of the wire protocol. No code.
 *
 * @typedef {{text?: string, ciphertext?: string, mentions?: string[]}} Content
 *
 * @typedef {object} Reaction
 * @property {string} emoji
 * @property {number} count how many members gave it
 * @property {boolean} me whether the signed-in user is one of them
 *
 * @typedef {object} Message a message as it is now (an item of `history`)
 * @property {number} seq
 * @property {string} from
 * @property {string} timestamp
 * @property {string} [client_id]
 * @property {Content} [content] absent once deleted
 * @property {string} [edited_at]
 * @property {boolean} [deleted]
 * @property {Reaction[]} reactions
 * @property {number} as_of the position of the log at which the server gave this copy
 *
 * @typedef {object} Entry a numbered frame of a conversation's log (PROTOCOL §3)
 * @property {"message"|"message_updated"|"reaction"|"membership"|"conversation_updated"} type
 * @property {string} conversation_id
 * @property {number} seq
 * @property {string} timestamp
 * @property {string} [from]
 * @property {string} [by]
 * @property {string} [client_id]
 * @property {Content} [content]
 * @property {number} [target_seq]
 * @property {boolean} [deleted]
 * @property {string} [user_id]
 * @property {string} [emoji]
 * @property {boolean} [added] of a reaction; in a `membership`, the field of this name is a list of users
 * @property {string[]} [removed]
 * @property {Record<string, string>} [roles]
 * @property {string} [title]
 *
 * @typedef {{seq: number, from: string, text: string, timestamp: string}} LastMessage
 *
 * @typedef {object} Member
 * @property {string} user_id
 * @property {"owner"|"moderator"|"member"} role
 * @property {number} delivered_seq
 * @property {number} read_seq
 *
 * @typedef {"online"|"away"|"busy"|"invisible"|"offline"} Status
 */
export {};
