/**
 * Requests a trace from the server. Owns nothing; the token belongs to the access.
 *
 * @typedef {object} Asked
 * @property {string} conversation
 * @property {string} seq
 * @property {string} user empty: all recipients
 */
import { SignInRefused } from "../session.js";

/** The request was refused; a retry would get the same answer. */
export class NotTraced extends Error {}

/** @param {string} search of an address @returns {Asked} missing parameters are empty */
export function parseAsked(search) {
  const params = new URLSearchParams(search);
  const of = (/** @type {string} */ name) => params.get(name)?.trim() ?? "";
  return { conversation: of("conversation"), seq: of("seq"), user: of("user") };
}

/** @param {string} conversation @param {number} seq @returns {string} the page's address for all recipients */
export function addressOf(conversation, seq) {
  return `/trace?${new URLSearchParams({ conversation, seq: String(seq) })}`;
}

/**
 * Requests one page.
 * @param {import("../access.js").Access} access
 * @param {Asked} asked
 * @param {string | null} after the last recipient that is known
 * @returns {Promise<import("./types.js").Trace>} rejects with SignInRefused if the user has to enter another token, otherwise
 *   with the error of the server or the network
 */
export async function askTrace(access, { conversation, seq, user }, after) {
  const query = new URLSearchParams();
  if (user !== "") query.set("user_id", user);
  if (after !== null) query.set("after", after);
  const url = `/v1/admin/conversations/${encodeURIComponent(conversation)}/messages/${encodeURIComponent(seq)}/trace?${query}`;
  const ask = async (/** @type {boolean} */ fresh) => fetch(url, { headers: { authorization: `Bearer ${await access.token(fresh)}` } });
  let response = await ask(false);
  if (response.status === 401) response = await ask(true);
  // A proxy in between may answer something else.
  const { data, error } = await response.json().catch(() => ({}));
  if (data) return data;
  throw refusal(response.status, error);
}

/**
 * @param {number} status
 * @param {{message?: string, details?: {field: string, message: string}[]} | undefined} error
 */
function refusal(status, error) {
  if (status === 401) return new SignInRefused("The token is not valid, or has expired.");
  if (status === 403) return new SignInRefused("This token may not see it: it needs the scope admin.");
  if (status === 404) return new NotTraced("There is no such message. The number may be that of something else in the conversation, such as a new member.");
  const [detail] = error?.details ?? [];
  const message = detail ? `${detail.field}: ${detail.message}` : (error?.message ?? "The server gave no answer.");
  return status === 400 ? new NotTraced(message) : new Error(message);
}
