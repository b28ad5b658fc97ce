import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { scan, shoot, withWorld } from "./support.mjs";

/** The load-testing harness, which is built beside the server. */
const HARNESS = process.env.LOADTEST_BIN ?? join(dirname(process.env.SWITCHBOARD_BIN ?? ""), "switchboard-loadtest");
const harness = (/** @type {string[]} */ ...args) => promisify(execFile)(HARNESS, args);

/** Opens a report, checks that everything in it is drawn, and returns the page. */
async function opened(world, file) {
  const page = world.watch(await (await world.context()).newPage(), file);
  world.windows.push(page);
  await page.goto(pathToFileURL(file).href);
  const charts = await page.locator("figure.chart").all();
  const sections = await page.locator("section:has(figure.chart) > h2").allTextContents();
  assert.deepEqual(sections, ["Latency by percentile", "Latency over time", "Throughput", "Processes"]);
  for (const chart of charts) {
    const title = await chart.locator("h3").innerText();
    const lines = await chart.locator("svg[role=img] path.line").evaluateAll((paths) =>
      paths.map((path) => {
        const { width, height } = path.getBoundingClientRect();
        return { size: width + height, colour: getComputedStyle(path).stroke };
      }),
    );
    assert.ok(lines.some(({ size }) => size > 20), `${title} has no line: ${JSON.stringify(lines)}`);
    assert.ok(lines.every(({ colour }) => colour !== "none"), `${title}: ${JSON.stringify(lines)}`);
  }
  await scan(page, file);
  return page;
}

test("the harness's report: a run, and two of them side by side", () =>
  withWorld(async (world) => {
    const file = (/** @type {string} */ name) => join(world.server.folder, name);
    const load = ["--connections", "6", "--rate", "60", "--warm-up", "0.6", "--duration", "2"];
    const output = ["--json", file("one.json"), "--html", file("one.html")];
    await harness("direct", "--url", world.server.url, ...load, ...output);
    const { figures } = JSON.parse(readFileSync(file("one.json"), "utf8"));
    const names = figures.map(({ name }) => name.replaceAll("`", ""));
    assert.ok(names.includes("send to the other side, p99"), names.join());

    const one = await opened(world, file("one.html"));
    assert.equal(await one.title(), "direct · Switchboard load test");
    assert.deepEqual(await one.locator("table.figures tbody th").allInnerTexts(), names);
    await one.locator("table.figures tbody tr").first().getByText("bare echo").waitFor();
    await shoot(one, "report");

    copyFileSync(file("one.json"), file("other.json"));
    await harness("compare", file("one.json"), file("other.json"), "--html", file("both.html"));
    const both = await opened(world, file("both.html"));
    assert.deepEqual(await both.locator("table.figures thead th").allInnerTexts(), ["Figure", "one", "other"]);
    await shoot(both, "report-comparison");
  }));
