/**
 * The tokens of the operators' pages. Development mode gives one to anyone; otherwise the user is asked for one, which is kept as
 * long as the tab. Owns this tab's tokens, which are different from the chat's: they have more scopes.
 */
import { byId, setText } from "./dom.js";
import { SignInRefused } from "./session.js";

export class Access {
  /** The stored token has not been used yet, so a rejected one must have been another. */
  #isUntried = false;
  #user;
  #scope;
  #key;

  /**
   * @param {string} page the page that needs the token; in development mode its user's name
   * @param {string} scope the required scopes
   */
  constructor(page, scope) {
    this.#user = page;
    this.#scope = scope;
    this.#key = `switchboard.${page}.token`;
  }

  /** @param {string} token pasted by the user */
  keep(token) {
    sessionStorage.setItem(this.#key, token);
    this.#isUntried = true;
  }

  /**
   * @param {boolean} fresh whether the last token is no longer valid
   * @returns {Promise<string>} rejects with SignInRefused if the user has to enter another one
   */
  async token(fresh) {
    const kept = sessionStorage.getItem(this.#key);
    if (kept !== null && (this.#isUntried || !fresh)) {
      this.#isUntried = false;
      return kept;
    }
    sessionStorage.removeItem(this.#key);
    const given = await devToken(this.#user, [this.#scope]);
    if (given === null) throw new SignInRefused(kept === null ? "" : "The token is not valid, or has expired.");
    sessionStorage.setItem(this.#key, given);
    return given;
  }
}

/**
 * From the development token endpoint.
 * @param {string} user
 * @param {string[]} scope
 * @returns {Promise<string | null>} null: there is no such endpoint; rejects with network errors
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
 * The form for a token, if there is no development token endpoint.
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
