/** The sign-in form, which asks only for a name. */
import { byId, setAttribute, setText } from "../dom.js";
import { signIn } from "../session.js";
import { isName } from "../text.js";

/**
 * @param {(session: import("../session.js").Session) => void} onSignedIn
 */
export function showSignIn(onSignedIn) {
  const main = byId("sign-in");
  const form = byId("sign-in-form");
  const input = byId("name");
  const button = form.querySelector("button");
  main.hidden = false;
  input.value = new URLSearchParams(location.search).get("name") ?? "";
  input.focus();

  form.addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const name = input.value.trim();
    const problem = isName(name) ? "" : "Use letters, digits and _ - . : @, without spaces.";
    say(problem);
    if (problem) return;
    button.disabled = true;
    try {
      const session = await signIn(name);
      main.hidden = true;
      onSignedIn(session);
    } catch (error) {
      const { refused, message } = /** @type {{refused?: boolean, message: string}} */ (error);
      say(refused ? message : "The server can't be reached. Try again in a moment.");
    } finally {
      button.disabled = false;
    }
  });

  /** @param {string} problem */
  function say(problem) {
    setText(byId("name-problem"), problem);
    setAttribute(input, "aria-invalid", problem ? "true" : null);
    if (problem) input.focus();
  }
}
