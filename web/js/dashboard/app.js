/** The dashboard's entry point: the token, the choice in the address, and one redraw for all changes since the last one. */
import { Access, askForToken } from "../access.js";
import { byId, fill, h, setAttribute, setText } from "../dom.js";
import { deviceId, instanceId } from "../session.js";
import { plural } from "../text.js";
import { mark } from "../views/icons.js";
import { FIRST_TOPIC, formatChoice, NODE_TOPIC, parseChoice, WINDOW_MS } from "./choice.js";
import { spanOf } from "./columns.js";
import { Feed } from "./feed.js";
import { time } from "./format.js";
import { settled } from "./groups.js";
import { connectionView } from "./views/connection.js";
import { controlsView } from "./views/controls.js";
import { NodesView } from "./views/nodes.js";
import { setTheme } from "./views/theme.js";
import { TopicView } from "./views/topic.js";

/** @typedef {import("./choice.js").Choice} Choice */

const TOPICS = "switchboard.dashboard.topics";
const TOPICS_MAX = 10;
const TICK_MS = 1_000;

const access = new Access("dashboard", "operator");

class Page {
  /** The data and the time when updates were paused. @type {{windows: import("./windows.js").Windows, now_ms: number, version: number} | null} */
  #held = null;
  #isDue = false;

  constructor() {
    this.#choice = this.#parse();
    this.#feed = new Feed({
      url: new URL("/v1/ws", location.href.replace(/^http/, "ws")).href,
      device_id: deviceId(),
      instance_id: instanceId(),
      token: (fresh) => access.token(fresh),
      onChange: () => this.#schedule(),
    });
    this.#connection = connectionView(this.#feed);
    this.#controls = controlsView({ onChoice: (choice) => void (location.hash = formatChoice(choice)), onHold: () => this.#hold() });
    const redraw = () => this.#schedule();
    this.#views = { topic: new TopicView(redraw), nodes: new NodesView(redraw) };
  }
  /** The topics viewed in this browser, the last one first. */
  #topics = recentTopics();
  /** @type {Choice} */
  #choice;
  #feed;
  #connection;
  #controls;
  #views;
  #noticeText = h("span", { role: "status" });
  /** Updated silently: announcing each change would drown everything else. */
  #noticeCount = h("span", { class: "meta", "aria-hidden": "true" });
  #notice = h("p", { class: "remark" }, this.#noticeText, this.#noticeCount);

  start() {
    byId("mark").replaceWith(mark());
    byId("connection").replaceWith(this.#connection.node);
    byId("controls").append(...this.#controls.nodes);
    byId("controls").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      this.#controls.submit();
    });
    fill(byId("stage"), this.#notice, this.#views.topic.node, this.#views.nodes.node);
    askForToken(access, () => this.#feed.start());
    addEventListener("hashchange", () => this.#follow());
    addEventListener("online", () => this.#feed.connection.retryNow());
    setInterval(() => this.#schedule(), TICK_MS);
    this.#follow();
    this.#feed.start();
  }

  /** Shows what the address says. Data of another topic or window is discarded. */
  #follow() {
    const before = this.#choice;
    this.#choice = this.#parse();
    const { view, topic, window } = this.#choice;
    if (before.view !== view || before.topic !== topic || before.window !== window) this.#held = null;
    if (view === "topic") this.#topics = remember(this.#topics, topic);
    this.#watch();
    this.#schedule();
  }

  #parse() {
    return parseChoice(location.hash, this.#topics[0]);
  }

  #watch() {
    if (this.#held) return;
    const { view, topic, window, range_s } = this.#choice;
    this.#feed.watch({ topic: view === "nodes" ? NODE_TOPIC : topic, window, range_s });
  }

  #hold() {
    const { windows, now_ms } = this.#feed;
    this.#held = this.#held ? null : { windows: windows.copy(), now_ms, version: windows.version };
    this.#watch();
    this.#schedule();
  }

  /** All changes between two animation frames are drawn once. */
  #schedule() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    const { view, window, range_s } = this.#choice;
    const { windows, now_ms } = this.#held ?? this.#feed;
    const isRefused = this.#feed.state.phase === "stopped" && this.#feed.state.code === 4401;
    byId("access").hidden = !isRefused;
    byId("dashboard").hidden = isRefused;
    if (isRefused) return setText(byId("token-problem"), this.#feed.state.why);
    const span = spanOf(windows, { window_ms: WINDOW_MS[window], range_ms: range_s * 1_000 }, now_ms);
    this.#connection.show();
    this.#controls.show({ choice: this.#choice, held: this.#held, topics: this.#topics, windows, ...settled(this.#choice, windows) });
    this.#showViews();
    this.#showNotice();
    const isCurrent = this.#feed.isCurrent || this.#held !== null;
    this.#views[view].show({ choice: this.#choice, windows, span, isCurrent });
  }

  #showViews() {
    const { view, topic } = this.#choice;
    this.#views.topic.node.hidden = view !== "topic";
    this.#views.nodes.node.hidden = view !== "nodes";
    const title = `${view === "nodes" ? "Nodes" : topic} · Switchboard`;
    if (document.title !== title) document.title = title;
    const links = [
      { text: "Topic", to: "topic" },
      { text: "Nodes", to: "nodes" },
    ];
    const nav = byId("views");
    if (nav.childElementCount === 0) fill(nav, links.map(({ text }) => h("a", {}, text)));
    links.forEach(({ to }, at) => {
      const link = nav.children[at];
      setAttribute(link, "href", formatChoice({ ...this.#choice, view: to === "nodes" ? "nodes" : "topic" }));
      setAttribute(link, "aria-current", to === view && "page");
    });
  }

  #showNotice() {
    const { problem, isCurrent, windows, state } = this.#feed;
    const isCut = !isCurrent && state.phase !== "online" && windows.series.size > 0;
    const text = problem || (isCut ? "What is shown is what came before the connection broke." : "");
    const since = this.#held ? windows.version - this.#held.version : 0;
    setText(this.#noticeText, this.#held ? `Paused at ${time(this.#held.now_ms, 1_000)}.` : text);
    setText(this.#noticeCount, since > 0 ? `${plural(since, "update")} waiting` : "");
    this.#notice.hidden = this.#noticeText.textContent === "";
  }
}

/** @returns {string[]} the last one first */
function recentTopics() {
  const kept = JSON.parse(localStorage.getItem(TOPICS) ?? "[]");
  return Array.isArray(kept) && kept.length > 0 ? kept : [FIRST_TOPIC];
}

/** @param {string[]} topics @param {string} topic @returns {string[]} with it at the front */
function remember(topics, topic) {
  const recent = [topic, ...topics.filter((known) => known !== topic)].slice(0, TOPICS_MAX);
  localStorage.setItem(TOPICS, JSON.stringify(recent));
  return recent;
}

setTheme();
new Page().start();
