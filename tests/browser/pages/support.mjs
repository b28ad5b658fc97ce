/** A real server, a real Chromium, and people in it. Nothing here waits for a time: only for what can be seen. */
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { chromium } from "playwright-core";

const BINARY = process.env.SWITCHBOARD_BIN;
const CHROMIUM = process.env.CHROMIUM_BIN ?? "/usr/bin/chromium";
const SCREENSHOTS = process.env.SCREENSHOTS;
/** Chromium without its own traffic to the outside. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
/** What a person would wait before calling it broken. */
const PATIENCE_MS = 15_000;
const DESKTOP = { width: 1180, height: 760 };
export const PHONE = { width: 390, height: 780 };

/** A server on a folder of its own, which can be killed and started again. */
export class Server {
  folder = mkdtempSync(join(tmpdir(), "switchboard-browser-"));
  listen = "127.0.0.1:0";

  /** @param {string[]} settings more `--set key=value` */
  constructor(settings = []) {
    assert.ok(BINARY, "SWITCHBOARD_BIN names the binary to test");
    this.settings = settings;
  }

  get url() {
    return `http://${this.listen}`;
  }

  /** The first time on a free port, then on the same one. */
  async start() {
    const settings = [`node.listen=${this.listen}`, "metrics.listen=127.0.0.1:0", `store.path=${this.folder}`, ...this.settings];
    const args = settings.flatMap((setting) => ["--set", setting]);
    this.process = spawn(/** @type {string} */ (BINARY), args, { stdio: ["ignore", "pipe", "inherit"], env: { ...process.env, SWITCHBOARD__LOG__LEVEL: "warn" } });
    this.exited = new Promise((resolve) => this.process.once("exit", resolve));
    const [line] = await Promise.race([firstLine(this.process.stdout), this.exited.then((code) => assert.fail(`the server ended with ${code}`))]);
    this.listen = JSON.parse(line).listen;
    return this;
  }

  /** A token that the development door would not give: one that soon runs out. */
  async token(user, ttl) {
    const { stdout } = await promisify(execFile)(/** @type {string} */ (BINARY), ["token", "--user", user, "--ttl", ttl, "--set", `store.path=${this.folder}`]);
    return stdout.trim();
  }

  /** @param {NodeJS.Signals} signal */
  async end(signal) {
    this.process.kill(signal);
    await this.exited;
  }

  /** As after a restore: the next start makes another store. */
  async emptyStore() {
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.folder);
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
 * Runs a test with a server and a browser, and fails it for anything the pages complain of.
 * @param {(world: World) => Promise<void>} run
 * @param {string[]} [settings]
 */
export async function withWorld(run, settings) {
  const server = await new Server(settings).start();
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
  /** @type {string[]} errors of the pages' own, security policy violations included */
  complaints = [];
  /** @type {Person[]} */
  people = [];

  constructor(server, browser) {
    this.server = server;
    this.browser = browser;
  }

  /** Someone signs in, in a window of his own. */
  async person(name, { wire, prepare, ...options } = {}) {
    const context = await this.browser.newContext({ viewport: DESKTOP, locale: "en-GB", colorScheme: "light", reducedMotion: "reduce", ...options });
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

  watch(page, name) {
    page.setDefaultTimeout(PATIENCE_MS);
    page.on("pageerror", (error) => this.complaints.push(`${name}: ${error.stack}`));
    page.on("console", (message) => {
      // A connection that fails is reported by the browser itself, and is what some of these tests are about.
      const expected = /WebSocket connection to|ERR_CONNECTION_REFUSED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/.test(message.text());
      if (message.type() === "error" && !expected) this.complaints.push(`${name}: ${message.text()}`);
    });
    return page;
  }

  async shootAll(name) {
    for (const person of this.people) if (!person.page.isClosed()) await shoot(person.page, `${name}-${person.name}`);
  }
}

/** Stands between a window and the server, and can be cut. */
export class Wire {
  #whole = true;
  #sockets = new Set();
  /** How many frames were lost, and how many sockets there were. */
  lost = 0;
  opened = 0;
  /** @type {Map<string, number>} how many frames of each type the server sent */
  seen = new Map();
  /** Which of the server's frames are lost from now on. */
  lose = (/** @type {any} */ _frame) => false;

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
        if (!this.lose(frame)) return socket.send(message);
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

  /** Until the server has sent so many frames of a type. */
  async until(type, count) {
    while ((this.seen.get(type) ?? 0) < count) await new Promise((resolve) => (this.#watcher = resolve));
  }
  #watcher;

  /** Every socket breaks, and no new one gets through. */
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

  /** Through the field above the list. */
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

  /** Until the conversation in view is the server's, no longer a draft. */
  loaded() {
    return this.page.locator("[role=log][aria-busy=false]").waitFor();
  }

  /** Writes and does not wait for anything. */
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

  /** With the pointer. */
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

  /** Until the window shows exactly these, with nothing on its way. */
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
      assert.fail(`${this.name}'s window has messages on their way`);
    }
  }
}

/**
 * Writes messages as somebody who has no window, from the page's own origin.
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

/** @param {import("playwright-core").Page} page */
export async function shoot(page, name) {
  if (!SCREENSHOTS) return;
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
