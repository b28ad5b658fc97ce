/**
 * The page's token. Development mode gives one to anyone; else it is asked for, and kept as long as the tab.
 * Owns this tab's token, which is another one than the chat's: it may do more.
 */
import { SignInRefused } from "../session.js";

const TOKEN = "switchboard.dashboard.token";
const USER = "dashboard";

/** The kept one was not used yet, so that whatever counts no longer was another one. */
let isUntried = false;

/** @param {string} token pasted by someone */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
  isUntried = true;
}

/**
 * From the development door.
 * @param {string[]} scope
 * @returns {Promise<string | null>} null: there is no such door; rejects with whatever a network fails with
 */
export async function devToken(scope) {
  const response = await fetch("/v1/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: USER, scope }),
  });
  if (response.status === 404) return null;
  const { data, error } = await response.json();
  if (!response.ok) throw new Error(error?.message ?? "The server gave no token.");
  return data.token;
}

/**
 * For each new session.
 * @param {boolean} fresh the one that was used counts no longer
 * @returns {Promise<string>} rejects with SignInRefused when someone has to give another one
 */
export async function token(fresh) {
  const kept = sessionStorage.getItem(TOKEN);
  if (kept !== null && (isUntried || !fresh)) {
    isUntried = false;
    return kept;
  }
  sessionStorage.removeItem(TOKEN);
  const given = await devToken(["operator"]);
  if (given === null) throw new SignInRefused(kept === null ? "" : "The token is not valid, or has run out.");
  sessionStorage.setItem(TOKEN, given);
  return given;
}
