/** Dialogs, based on the <dialog> element, which traps the focus, closes on Esc and restores the focus. */
import { h, Rows, setAttribute, setText } from "../dom.js";
import { randomId } from "../session.js";
import { nameOf } from "../store.js";
import { isName, namesIn, plural } from "../text.js";
import { avatar } from "./avatar.js";
import { icon } from "./icons.js";
import { openMenu } from "./menu.js";
import { problemOf } from "./status.js";

/** @typedef {import("../store.js").Conversation} Conversation */

/**
 * @param {import("../client.js").Client} client
 * @param {(conversation: Conversation) => void} onCreated
 */
export function openNewGroup(client, onCreated) {
  const client_id = randomId();
  const title = h("input", { id: "group-title", name: "title", autofocus: true, maxlength: 128, autocomplete: "off", placeholder: "Operators" });
  const members = h("input", {
    ...{ id: "group-members", name: "members", autocomplete: "off", autocapitalize: "none", spellcheck: "false" },
    ...{ placeholder: "bob, carol", "aria-describedby": "group-members-help" },
  });
  const { dialog, submit } = formDialog("New group", "Create group", async () => {
    const names = checkedNames(members.value, client.store.me);
    onCreated(await client.createGroup(client_id, title.value.trim(), names));
  });
  submit.before(
    h("label", { for: "group-title" }, "Title"),
    title,
    h("label", { for: "group-members" }, "Members"),
    members,
    h("p", { id: "group-members-help", class: "hint" }, "Their names, with commas or spaces between. You are in already."),
  );
  dialog.showModal();
}

/**
 * @param {string} title
 * @param {string} text
 * @param {string} label of the button that does it
 * @param {() => Promise<unknown>} run
 */
export function confirmThat(title, text, label, run) {
  const { dialog, submit } = formDialog(title, label, run);
  submit.classList.add("danger");
  setAttribute(submit, "autofocus", true);
  submit.before(h("p", {}, text));
  dialog.showModal();
}

/**
 * @param {import("../client.js").Client} client
 * @param {Conversation} conversation
 */
export function openGroupDetails(client, conversation) {
  const manages = () => conversation.role === "owner" || conversation.role === "moderator";
  const dialog = plainDialog("Group details");
  const problem = problemLine();
  const run = (/** @type {Promise<unknown>} */ action) => void tryTo(action, problem);
  const rename = titleForm(client, conversation, run);
  const add = addForm(client, conversation, run);
  const list = h("ul", { class: "members" });
  const count = h("h3", {});
  const rows = new Rows(list, (/** @type {Shown} */ { member }) => member.user_id, (shown) => memberRow(client, conversation, shown, run));
  dialog.append(rename, count, list, add, problem, leaveButton(client, conversation));

  const show = () => {
    setText(count, plural(conversation.members_count, "member"));
    rename.hidden = add.hidden = !manages();
    const members = [...(conversation.members?.values() ?? [])];
    rows.show(members.map((member) => ({ member, status: statusOf(client, member.user_id), manages: manages() })));
    if (client.store.conversations.get(conversation.id) !== conversation) dialog.close();
  };
  const end = client.store.onChange(show);
  dialog.addEventListener("close", end);
  show();
  dialog.showModal();
}

/** @typedef {(action: Promise<unknown>) => void} Run awaits an action, and shows its error in the dialog */

/** @param {import("../client.js").Client} client @param {Conversation} conversation @param {Run} run */
function titleForm(client, conversation, run) {
  const input = h("input", { id: "rename", maxlength: 128, autocomplete: "off", value: conversation.title });
  return inlineForm("Title", input, "Save", () => run(client.rename(conversation, input.value.trim())));
}

/** @param {import("../client.js").Client} client @param {Conversation} conversation @param {Run} run */
function addForm(client, conversation, run) {
  const input = h("input", { id: "add-members", autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "dave" });
  const add = async () => {
    await client.addMembers(conversation, checkedNames(input.value, client.store.me));
    input.value = "";
  };
  return inlineForm("Add members", input, "Add", () => run(add()));
}

/** @param {import("../client.js").Client} client @param {Conversation} conversation */
function leaveButton(client, conversation) {
  const leave = () => client.removeMember(conversation, client.store.me);
  const ask = () => confirmThat("Leave group", `You will no longer see ${nameOf(conversation)}.`, "Leave", leave);
  return h("button", { type: "button", class: "danger quiet", on: { click: ask } }, "Leave group");
}

/** @typedef {{member: import("../types.js").Member, status: import("../types.js").Status, manages: boolean}} Shown */

/**
 * @param {import("../client.js").Client} client
 * @param {Conversation} conversation
 * @param {Shown} first
 * @param {Run} run
 */
function memberRow(client, conversation, first, run) {
  const name = first.member.user_id;
  const isMe = name === client.store.me;
  const face = avatar(name, { status: first.status });
  const role = h("span", { class: "meta" });
  const roleChoices = () =>
    ["member", "moderator", "owner"].map((choice) => ({
      label: `Make ${choice}`,
      choose: () => run(client.setRole(conversation, name, choice)),
    }));
  const removal = { label: "Remove from group", danger: true, choose: () => run(client.removeMember(conversation, name)) };
  const more = h(
    "button",
    {
      ...{ type: "button", class: "icon-button", "aria-label": `Manage ${name}`, "aria-haspopup": "menu", "aria-expanded": "false" },
      on: { click: () => openMenu(more, `Manage ${name}`, [...(conversation.role === "owner" ? roleChoices() : []), removal]) },
    },
    icon("more"),
  );
  const node = h("li", {}, face, h("span", { class: "member-name" }, isMe ? `${name} (you)` : name), role, more);
  /** @param {Shown} shown */
  const update = ({ member, status, manages }) => {
    setText(role, member.role === "member" ? "" : member.role);
    face.lastElementChild?.setAttribute("class", `lamp ${status}`);
    more.hidden = isMe || !manages;
  };
  return { node, update };
}

/** @param {import("../client.js").Client} client @param {string} user */
function statusOf({ store }, user) {
  return user === store.me ? store.status : (store.presence.get(user)?.status ?? "offline");
}

/**
 * @param {string} text
 * @param {string} me
 * @returns {string[]} throws an error for an invalid name
 */
function checkedNames(text, me) {
  const names = namesIn(text).filter((name) => name !== me);
  const wrong = names.find((name) => !isName(name));
  if (wrong !== undefined) throw new Error(`"${wrong}" can't be a name: letters, digits and _ - . : @ only.`);
  return names;
}

/**
 * @param {string} label
 * @param {HTMLInputElement} input
 * @param {string} action
 * @param {() => void} run
 */
function inlineForm(label, input, action, run) {
  const onSubmit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    run();
  };
  const row = h("div", { class: "field-row" }, input, h("button", { type: "submit" }, action));
  return h("form", { on: { submit: onSubmit } }, h("label", { for: input.id }, label), row);
}

/**
 * @param {string} title
 * @param {string} action
 * @param {() => Promise<unknown>} run closes the dialog when it succeeds
 */
function formDialog(title, action, run) {
  const dialog = plainDialog(title);
  const problem = problemLine();
  const submit = h("button", { type: "submit", class: "primary" }, action);
  const onSubmit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    submit.disabled = true;
    if (await tryTo(run(), problem)) dialog.close();
    submit.disabled = false;
  };
  dialog.append(h("form", { on: { submit: onSubmit } }, submit, problem));
  return { dialog, submit };
}

function problemLine() {
  return h("p", { class: "problem", role: "alert" });
}

/**
 * @param {Promise<unknown>} action
 * @param {HTMLElement} problem shows why it failed
 * @returns {Promise<boolean>} whether it succeeded
 */
async function tryTo(action, problem) {
  setText(problem, "");
  try {
    await action;
    return true;
  } catch (error) {
    setText(problem, problemOf(error));
    return false;
  }
}

/** @param {string} title */
function plainDialog(title) {
  const close = h("button", { type: "button", class: "icon-button", "aria-label": "Close" }, icon("close"));
  const heading = h("h2", { id: `dialog-${randomId()}` }, title);
  const dialog = h("dialog", { "aria-labelledby": heading.id }, h("div", { class: "dialog-head" }, heading, close));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  setAttribute(dialog, "class", "dialog");
  document.body.append(dialog);
  return dialog;
}
