/** The trace page's entry point: the token, the query in the address, and the pages of recipients. */
import { Access, askForToken } from "../access.js";
import { byId, fill, h, setText } from "../dom.js";
import { SignInRefused } from "../session.js";
import { plural } from "../text.js";
import { mark } from "../views/icons.js";
import { askTrace, NotTraced, parseAsked } from "./ask.js";
import { scaleOf, stepsOf } from "./lanes.js";
import { headOf, rowOf } from "./views/story.js";

/** @typedef {import("./types.js").Trace} Trace */

class Page {
  #access = new Access("trace", "admin");
  #asked = parseAsked(location.search);
  /** The pages loaded so far, combined. @type {Trace | null} */
  #trace = null;

  #message = h("div", {});
  #recipients = h("ol", { "aria-label": "Recipients" });
  #said = h("span", { role: "status" });
  #again = h("button", { type: "button", class: "link", on: { click: () => void this.#ask() } }, "Try again");
  #notice = h("p", { class: "remark", hidden: true }, this.#said, this.#again);
  #count = h("span", { class: "hint", role: "status" });
  #more = h("button", { type: "button", on: { click: () => void this.#ask() } }, "Show more recipients");
  #end = h("p", { class: "end", hidden: true }, this.#count, this.#more);

  start() {
    byId("mark").replaceWith(mark());
    fill(byId("stage"), this.#message, this.#recipients, this.#notice, this.#end);
    for (const [name, value] of Object.entries(this.#asked)) byId(name).value = value;
    // For all recipients, the address has no `user`.
    byId("asked").addEventListener("formdata", (/** @type {FormDataEvent} */ { formData }) => {
      if (formData.get("user") === "") formData.delete("user");
    });
    askForToken(this.#access, () => void this.#ask());
    const { conversation, seq } = this.#asked;
    if (conversation === "" || seq === "") return byId("conversation").focus();
    document.title = `Message ${seq} · Trace · Switchboard`;
    void this.#ask();
  }

  /** Requests the next page, or the first. */
  async #ask() {
    const known = this.#trace?.recipients ?? [];
    this.#busy(true);
    try {
      const page = await askTrace(this.#access, this.#asked, known.at(-1)?.user_id ?? null);
      this.#trace = { ...page, recipients: [...known, ...page.recipients] };
      this.#tell("");
      this.#draw(this.#trace);
      if (known.length > 0) this.#focusOn(known.length);
    } catch (error) {
      this.#refused(error);
    } finally {
      this.#busy(false);
    }
  }

  /** @param {boolean} isBusy */
  #busy(isBusy) {
    byId("stage").setAttribute("aria-busy", String(isBusy));
    this.#again.disabled = this.#more.disabled = isBusy;
  }

  /** Redraws everything, because the last page may need a longer scale. @param {Trace} trace */
  #draw(trace) {
    const { recipients, events, stored_at, more } = trace;
    const steps = stepsOf([...events, ...recipients.flatMap(({ events }) => events)], stored_at);
    const scale = scaleOf(steps.reduce((longest, { after_ms }) => Math.max(longest, after_ms), 0));
    fill(this.#message, headOf(trace, scale));
    fill(this.#recipients, recipients.map((recipient) => rowOf(recipient, stored_at, scale)));
    setText(this.#count, `${plural(recipients.length, "recipient")}${more ? " so far" : ""}`);
    this.#more.hidden = !more;
    this.#end.hidden = false;
  }

  /** @param {number} at the first that is new */
  #focusOn(at) {
    const row = this.#recipients.children[at] ?? this.#recipients.lastElementChild;
    row?.querySelector("h2")?.focus();
  }

  /** @param {unknown} error */
  #refused(error) {
    if (!(error instanceof SignInRefused)) {
      this.#again.hidden = error instanceof NotTraced;
      return this.#tell(error instanceof TypeError ? "The server can't be reached." : /** @type {Error} */ (error).message);
    }
    this.#show("access");
    setText(byId("token-problem"), error.message);
    byId("token").focus();
  }

  /** @param {string} problem */
  #tell(problem) {
    this.#show("trace");
    this.#notice.hidden = problem === "";
    setText(this.#said, problem);
  }

  /** @param {"access" | "trace"} part */
  #show(part) {
    byId("access").hidden = part !== "access";
    byId("trace").hidden = part !== "trace";
  }
}

new Page().start();
