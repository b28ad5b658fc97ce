/** A real server, a real Chromium, and its users. Nothing here waits for a fixed time, only for visible effects. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import { Board } from "./board.mjs";

const BINARY = process.env.SWITCHBOARD_BIN;
const CHROMIUM = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS;
/** Chromium's flags, without its own network traffic. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
/** The timeout of actions and of waits: long, because the machine may be busy. */
export const PATIENCE_MS = 60_000;
/** Settings with which pages look for a server that was away at once, however long it was. */
export const QUICK_BACK = ["session.reconnect_max_ms=1000"];
const DESKTOP = { width: 1180, height: 760 };
export const PHONE = { width: 390, height: 780 };

/** A server with its own folder, which can be killed and restarted. */
export class Server {
  folder = mkdtempSync(join(tmpdir(), "switchboard-browser-"));
  /** A subfolder, so that files beside the store, such as the development key, are removed too. */
  store = join(this.folder, "store");
  listen = "127.0.0.1:0";

  /**
   * @param {string[]} settings more `--set key=value`
   * @param {string[]} options of the command line
   */
  constructor(settings = [], options = []) {
    assert.ok(BINARY, "SWITCHBOARD_BIN names the binary to test");
    this.settings = settings;
    this.options = options;
  }

  get url() {
    return `http://${this.listen}`;
  }

  /** Listens on a free port at the first start, and on the same one after that. */
  async start() {
    const settings = [`node.listen=${this.listen}`, "metrics.listen=127.0.0.1:0", `store.path=${this.store}`, ...this.settings];
    const args = [...this.options, ...settings.flatMap((setting) => ["--set", setting])];
    this.process = spawn(/** @type {string} */ (BINARY), args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, SWITCHBOARD__LOG__LEVEL: "warn" } });
    this.exited = new Promise((resolve) => this.process.once("exit", resolve));
    const [line] = await Promise.race([firstLine(this.process.stdout), this.exited.then((code) => assert.fail(`the server ended with ${code}`))]);
    this.listen = JSON.parse(line).listen;
    return this;
  }

  /** A token that the development endpoint does not issue: with a short lifetime, or signed with a configured key. */
  async token(user, ttl = "1h", scopes = []) {
    const settings = [`store.path=${this.store}`, ...this.settings].flatMap((setting) => ["--set", setting]);
    const args = ["token", "--user", user, "--ttl", ttl, ...scopes.flatMap((scope) => ["--scope", scope]), ...settings];
    const { stdout } = await promisify(execFile)(/** @type {string} */ (BINARY), args);
    return stdout.trim();
  }

  /** A token for the development server, made here, so that its lifetime begins now. */
  mint(user, ttl_s) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const iat = Math.floor(Date.now() / 1_000);
    const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat, exp: iat + ttl_s })}`;
    return `${signed}.${createHmac("sha256", readFileSync(`${this.store}.dev-key`)).update(signed).digest("base64url")}`;
  }

  /** Publishes events like an application.
   * @param {{series: string, value: number, timestamp?: string, tags?: Record<string, string>}[]} events */
  async publish(topic, events) {
    this.publisher ??= await this.token("shop", "1h", ["topics:publish"]);
    const headers = { authorization: `Bearer ${this.publisher}`, "content-type": "application/json" };
    const answer = await fetch(`${this.url}/v1/topics/${topic}/events`, { method: "POST", headers, body: JSON.stringify({ events }) });
    assert.equal(answer.status, 202, await answer.text());
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    this.process.kill(signal);
    await this.exited;
  }

  /** Like a restore: the next start creates another store. */
  async emptyStore() {
    rmSync(this.store, { recursive: true, force: true });
  }

  async remove() {
    await this.end("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function firstLine(stream) {
  for await (const line of createInterface({ input: stream })) return [line];
  return new Promise(() => {});
}

/**
 * Runs a test with a server and a browser. Any error that a page reports fails the test.
 * @param {(world: World) => Promise<void>} run
 * @param {string[]} [settings]
 * @param {string[]} [options]
 */
export async function withWorld(run, settings, options) {
  const server = await new Server(settings, options).start();
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  const world = new World(server, browser);
  try {
    await run(world);
    assert.deepEqual(world.complaints, []);
  } catch (error) {
    await world.shootAll("failed");
    throw error;
  } finally {
    await browser.close();
    await server.remove();
  }
}

export class World {
  /** @type {string[]} errors reported by the pages, including violations of the content security policy */
  complaints = [];
  /** @type {Person[]} */
  people = [];
  /** @type {Board[]} */
  boards = [];
  /** @type {import("playwright-core").Page[]} other windows */
  windows = [];

  constructor(server, browser) {
    this.server = server;
    this.browser = browser;
  }

  /** A user who signs in to the chat in a new window. */
  async person(name, { wire, prepare, ...options } = {}) {
    const context = await this.context(options);
    await wire?.tap(context);
    await prepare?.(context);
    return this.personIn(context, name);
  }

  async personIn(context, name) {
    const person = new Person(name, this.watch(await context.newPage(), name));
    this.people.push(person);
    await person.page.goto(`${this.server.url}/?name=${name}`);
    await person.page.getByRole("button", { name: "Connect" }).click();
    await person.online();
    return person;
  }

  /** A dashboard in a new window. */
  async board(hash, { wire, ...options } = {}) {
    const context = await this.context(options);
    await wire?.tap(context);
    const board = new Board(this.watch(await context.newPage(), `board ${hash}`));
    this.boards.push(board);
    await board.page.goto(`${this.server.url}/dashboard${hash}`);
    return board;
  }

  /** Another page in a new window. */
  async window(path, options) {
    const page = this.watch(await (await this.context(options)).newPage(), path);
    this.windows.push(page);
    await page.goto(`${this.server.url}${path}`);
    return page;
  }

  context(options) {
    return this.browser.newContext({ viewport: DESKTOP, locale: "en-GB", colorScheme: "light", reducedMotion: "reduce", ...options });
  }

  watch(page, name) {
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => this.complaints.push(`${name}: ${error.stack}`));
    page.on("console", (message) => {
      const { url } = message.location();
      // With a configured key, this endpoint does not exist.
      if (url.endsWith("/v1/dev/token") && message.text().includes("404")) return;
      // Requests for a trace that does not exist, or may not be seen: the page shows the error.
      if (/\/v1\/admin\/.*\/trace\?/.test(url) && /\b(400|401|403|404)\b/.test(message.text())) return;
      // The browser itself reports failed connections, which some tests provoke.
      const expected = /WebSocket connection to|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(message.text());
      if (message.type() === "error" && !expected) this.complaints.push(`${name}: ${message.text()}`);
    });
    return page;
  }

  async shootAll(name) {
    for (const person of this.people) if (!person.page.isClosed()) await shoot(person.page, `${name}-${person.name}`);
    for (const [at, page] of this.windows.entries()) if (!page.isClosed()) await shoot(page, `${name}-window-${at + 1}`);
    for (const [at, { page }] of this.boards.entries()) if (!page.isClosed()) await shoot(page, `${name}-board-${at + 1}`);
  }
}

/** A proxy between a window and the server, which can be cut. */
export class Wire {
  #whole = true;
  #sockets = new Set();
  /** The numbers of lost frames, and of sockets opened. */
  lost = 0;
  opened = 0;
  /** @type {Map<string, number>} how many frames of each type the server sent */
  seen = new Map();
  /** Selects the server's frames that are lost. */
  lose = (/** @type {any} */ _frame) => false;
  /** Changes the others. */
  alter = (/** @type {any} */ frame) => frame;

  tap(context) {
    return context.routeWebSocket(/v1\/ws/, (socket) => {
      if (!this.#whole) return socket.close({ code: 1011 });
      const server = socket.connectToServer();
      this.#sockets.add(socket);
      this.opened += 1;
      server.onMessage((message) => {
        const frame = JSON.parse(String(message));
        this.seen.set(frame.type, (this.seen.get(frame.type) ?? 0) + 1);
        this.#watcher?.();
        if (!this.lose(frame)) return socket.send(JSON.stringify(this.alter(frame)));
        this.lost += 1;
      });
      const end = (other) => (code, reason) => {
        this.#sockets.delete(socket);
        other.close({ code, reason });
      };
      server.onClose(end(socket));
      socket.onClose(end(server));
    });
  }

  /** Waits until the server has sent this many frames of a type. */
  until(type, count) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`waited for ${count} ${type}, saw ${this.seen.get(type) ?? 0}`)), PATIENCE_MS);
      this.#watcher = () => {
        if ((this.seen.get(type) ?? 0) < count) return;
        clearTimeout(late);
        resolve(undefined);
      };
      this.#watcher();
    });
  }
  #watcher;

  /** Closes every socket, and lets no new one through. */
  cut() {
    this.#whole = false;
    for (const socket of this.#sockets) socket.close({ code: 1011 });
    this.#sockets.clear();
  }

  mend() {
    this.#whole = true;
  }
}

export class Person {
  constructor(name, page) {
    this.name = name;
    this.page = page;
    this.composer = page.locator("#composer-text");
    this.title = page.locator(".conversation-head h1");
    this.line = page.locator(".conversation-head .meta");
    this.banner = page.locator("#banner");
  }

  online() {
    return this.page.locator("#banner[data-phase=online]").waitFor({ state: "attached" });
  }

  /** Starts or opens a chat with the field above the list. */
  async chatWith(name) {
    await this.page.locator("#finder").fill(name);
    await this.page.keyboard.press("Enter");
    await this.title.getByText(name, { exact: true }).waitFor();
  }

  row(name) {
    return this.page.locator(`a.row[data-conversation="${name}"]`);
  }

  async open(name) {
    await this.row(name).click();
    await this.title.getByText(name, { exact: true }).waitFor();
    await this.loaded();
  }

  /** Waits until the conversation in view is loaded. */
  loaded() {
    return this.page.locator("[role=log][aria-busy=false]").waitFor();
  }

  /** Writes a message without waiting for anything. */
  async write(text) {
    await this.composer.fill(text);
    await this.composer.press("Enter");
  }

  async say(text) {
    await this.write(text);
    await this.acknowledged(text);
  }

  message(text) {
    return this.page.locator("li.message").filter({ has: this.page.locator(".text", { hasText: new RegExp(`^${text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`) }) });
  }

  sees(text) {
    return this.message(text).waitFor();
  }

  acknowledged(text) {
    return this.message(text).and(this.page.locator(".sent, .delivered, .read")).waitFor();
  }

  /** @param {"Sent"|"Delivered"|"Read"} progress */
  sent(text, progress) {
    return this.message(text).locator(".progress .visually-hidden").getByText(progress, { exact: true }).waitFor({ state: "attached" });
  }

  /** Opens the message's menu with the pointer and chooses an action. */
  async act(text, action) {
    await this.message(text).hover();
    await this.message(text).getByRole("button", { name: "More actions" }).click();
    await this.page.getByRole("menuitem", { name: action }).click();
  }

  async react(text, emoji) {
    await this.message(text).hover();
    await this.message(text).getByRole("button", { name: "React" }).click();
    await this.page.getByRole("menuitem", { name: emoji }).click();
  }

  async createGroup(title, members) {
    await this.page.getByRole("button", { name: "New group" }).click();
    await this.page.getByLabel("Title", { exact: true }).fill(title);
    await this.page.getByLabel("Members", { exact: true }).fill(members.join(", "));
    await this.page.getByRole("button", { name: "Create group" }).click();
    await this.title.getByText(title, { exact: true }).waitFor();
  }

  async setStatus(status) {
    await this.page.locator(".profile").click();
    await this.page.getByRole("menuitemradio", { name: status }).click();
  }

  /** @returns {Promise<string[]>} what the window shows, from top to bottom */
  texts() {
    return this.page.locator("li.message .text").allTextContents();
  }

  /** Waits until the window shows exactly these messages, in any order, and none is unsent. */
  async shows(expected) {
    const read = (texts) => {
      const shown = [...document.querySelectorAll("li.message .text")].map((text) => text.textContent);
      const waiting = document.querySelectorAll("li.message:is(.queued, .sending, .failed, .unknown)").length;
      return waiting === 0 && shown.length === texts.length && texts.every((text) => shown.includes(text));
    };
    try {
      await this.page.waitForFunction(read, expected);
    } catch {
      assert.deepEqual([...(await this.texts())].sort(), [...expected].sort(), `${this.name}'s window`);
      assert.fail(`${this.name}'s window has unsent messages`);
    }
  }
}

/**
 * Sends messages as a user without a window, from the page's origin.
 * @param {import("playwright-core").Page} page
 */
export async function seed(page, from, to, texts) {
  const write = async ({ from, to, texts }) => {
    const answer = await fetch("/v1/dev/token", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name: from }) });
    const { data } = await answer.json();
    const socket = new WebSocket(new URL("/v1/ws", location.href.replace(/^http/, "ws")), "switchboard.v1.json");
    const send = (frame) => socket.send(JSON.stringify(frame));
    await new Promise((resolve, reject) => {
      let left = texts.length;
      socket.onopen = () => send({ type: "auth", id: "auth", token: data.token, device_id: "seed" });
      socket.onclose = reject;
      socket.onmessage = ({ data }) => {
        const frame = JSON.parse(data);
        if (frame.type === "ready") texts.forEach((text, at) => send({ type: "send", id: String(at), to, client_id: `seed-${text}`, content: { text } }));
        if (frame.type === "error") reject(new Error(data));
        if (frame.type === "sent" && --left === 0) resolve(undefined);
      };
    });
    socket.close();
  };
  await page.evaluate(write, { from, to, texts });
}

/**
 * Fails if axe finds a violation.
 * @param {import("playwright-core").Page} page
 */
export async function scan(page, where) {
  // Evaluated by the debugger, because the page's content security policy forbids foreign scripts.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate((values) => globalThis.axe.run({ runOnly: { type: "tag", values } }), RULES);
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
  assert.deepEqual(found, [], where);
}

/** @param {import("playwright-core").Page} page */
export async function shoot(page, name) {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
