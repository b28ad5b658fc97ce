/**
 * Who is signed in in this tab, and with which token. Kept in sessionStorage: two tabs may be two people.
 *
 * @typedef {{token: string, user_id: string}} Session
 */

const SESSION = "switchboard.session";
const INSTANCE = "switchboard.instance";
const DEVICE = "switchboard.device";
/** The number of random characters in an id. */
const ID_CHARACTERS = 16;
const ALPHABET = "0123456789abcdefghijklmnopqrstuv";

/** A sign-in that the server refused. A retry would not help. */
export class SignInRefused extends Error {
  refused = true;
}

/** @returns {Session | null} */
export function currentSession() {
  const kept = sessionStorage.getItem(SESSION);
  return kept === null ? null : JSON.parse(kept);
}

/**
 * Gets a token from the development token endpoint.
 * @param {string} name
 * @returns {Promise<Session>} rejects with SignInRefused, or with network errors
 */
export async function signIn(name) {
  const response = await fetch("/v1/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  });
  if (response.status === 404) throw new SignInRefused("This server takes only tokens of its own issuer, so there is no door by name.");
  const { data, error } = await response.json();
  if (response.ok) {
    sessionStorage.setItem(SESSION, JSON.stringify(data));
    return data;
  }
  const message = error?.details?.[0]?.message ?? error?.message ?? "The server refused this name.";
  if (response.status < 500 && response.status !== 429) throw new SignInRefused(message);
  throw new Error(message);
}

export function signOut() {
  sessionStorage.removeItem(SESSION);
}

/** @returns {string} the same for every tab of this browser */
export function deviceId() {
  return kept(localStorage, DEVICE);
}

/** @returns {string} this tab's own id, the same after a reload */
export function instanceId() {
  return kept(sessionStorage, INSTANCE);
}

/** For a tab that was duplicated, together with its storage. */
export function newInstanceId() {
  sessionStorage.removeItem(INSTANCE);
  return instanceId();
}

/** A random id, even if the page is served without TLS (then there is no `crypto.randomUUID`). */
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(ID_CHARACTERS)), (byte) => ALPHABET[byte % ALPHABET.length]).join("");
}

/**
 * @param {Storage} storage
 * @param {string} key
 */
function kept(storage, key) {
  const id = storage.getItem(key) ?? randomId();
  storage.setItem(key, id);
  return id;
}
