/**
 * The tokens of the pages for operators. Development mode gives one to anyone; else it is asked for, and kept as long as the tab.
 * Owns this tab's tokens, which are others than the chat's: they may do more.
 */
import { byId, setText } from "./dom.js";
import { SignInRefused } from "./session.js";

export class Access {
  /** The kept one was not used yet, so that whatever counts no longer was another one. */
  #isUntried = false;
  #user;
  #scope;
  #key;

  /**
   * @param {string} page whose token it is; in development mode the name of its user
   * @param {string} scope all that it needs
   */
  constructor(page, scope) {
    this.#user = page;
    this.#scope = scope;
    this.#key = `switchboard.${page}.token`;
  }

  /** @param {string} token pasted by someone */
  keep(token) {
    sessionStorage.setItem(this.#key, token);
    this.#isUntried = true;
  }

  /**
   * @param {boolean} fresh the one that was used counts no longer
   * @returns {Promise<string>} rejects with SignInRefused when someone has to give another one
   */
  async token(fresh) {
    const kept = sessionStorage.getItem(this.#key);
    if (kept !== null && (this.#isUntried || !fresh)) {
      this.#isUntried = false;
      return kept;
    }
    sessionStorage.removeItem(this.#key);
    const given = await devToken(this.#user, [this.#scope]);
    if (given === null) throw new SignInRefused(kept === null ? "" : "The token is not valid, or has run out.");
    sessionStorage.setItem(this.#key, given);
    return given;
  }
}

/**
 * From the development door.
 * @param {string} user
 * @param {string[]} scope
 * @returns {Promise<string | null>} null: there is no such door; rejects with whatever a network fails with
 */
export async function devToken(user, scope) {
  const response = await fetch("/v1/dev/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name: user, scope }),
  });
  if (response.status === 404) return null;
  const { data, error } = await response.json();
  if (!response.ok) throw new Error(error?.message ?? "The server gave no token.");
  return data.token;
}

/**
 * The form for it, where there is no development door.
 * @param {Access} access
 * @param {() => void} onToken
 */
export function askForToken(access, onToken) {
  byId("access-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const given = byId("token").value.trim();
    if (given === "") return setText(byId("token-problem"), "Paste a token.");
    byId("token").value = "";
    access.keep(given);
    onToken();
  });
}
