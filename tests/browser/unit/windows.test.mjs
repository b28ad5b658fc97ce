import assert from "node:assert/strict";
import { test } from "node:test";
import { Windows } from "../../../web/js/dashboard/windows.js";
import { generator } from "./random.mjs";

const point = (start_ms, count = 1) => [start_ms, count, count * 2, 2, 2, 2, 2, 2];
const of = (series, points, tags) => ({ series, tags, points });
const starts = (windows) => [...windows.series.values()].map(({ points }) => points.map(([start_ms, count]) => `${start_ms}:${count}`).join(" "));

test("a state replaces everything, also one that nobody asked for", () => {
  const windows = new Windows();
  windows.onState({ version: 7, series: [of("a", [point(1_000)]), of("a", [point(2_000)], { board: "b1" })] });
  assert.deepEqual([windows.names, windows.tagsOf("a"), windows.oldest_ms, windows.newest_ms], [["a"], ["board"], 1_000, 2_000]);
  windows.onState({ version: 1, series: [of("b", [point(3_000)])] });
  assert.deepEqual([windows.names, windows.version, windows.oldest_ms], [["b"], 1, 3_000]);
  windows.onState({ version: 0, series: [] });
  assert.deepEqual([windows.names, windows.oldest_ms], [[], Infinity]);
});

test("an update has whole windows: they take the places of those that were known, or stand in their order", () => {
  const windows = new Windows();
  windows.onState({ version: 1, series: [of("a", [point(1_000), point(3_000)])] });
  assert.equal(windows.onUpdate({ version: 2, series: [of("a", [point(3_000, 5), point(2_000)])], closed_until_ms: 1_000 }), true);
  assert.deepEqual(starts(windows), ["1000:1 2000:1 3000:5"]);
  assert.equal(windows.closed_until_ms, 1_000);
});

test("an update that is no newer changes nothing; one that skips versions counts", () => {
  const windows = new Windows();
  windows.onState({ version: 4, series: [] });
  assert.equal(windows.onUpdate({ version: 4, series: [of("a", [point(1_000)])], closed_until_ms: 0 }), false);
  assert.deepEqual(windows.names, []);
  assert.equal(windows.onUpdate({ version: 9, series: [of("a", [point(1_000)])], closed_until_ms: 0 }), true);
  assert.equal(windows.version, 9);
});

test("series with the same tags in another order are one", () => {
  const windows = new Windows();
  windows.onState({ version: 1, series: [of("a", [point(1_000)], { x: "1", y: "2" })] });
  windows.onUpdate({ version: 2, series: [of("a", [point(2_000)], { y: "2", x: "1" })], closed_until_ms: 0 });
  assert.deepEqual(starts(windows), ["1000:1 2000:1"]);
});

test("what is older than an hour goes, and so does a series of which nothing is left", () => {
  const windows = new Windows();
  windows.onState({ version: 1, series: [of("old", [point(1_000)]), of("a", [point(1_000), point(2_000)])] });
  windows.onUpdate({ version: 2, series: [of("a", [point(3_602_000)])], closed_until_ms: 0 });
  assert.deepEqual(starts(windows), ["2000:1 3602000:1"]);
});

test("what a state had no room for stands before it, and an update is newer than an answer behind it", () => {
  const windows = new Windows(6);
  windows.onState({ version: 1, series: [of("a", [point(5_000)])] });
  windows.onOlder({ series: [of("a", [point(3_000), point(4_000)]), of("gone", [point(3_000)])] });
  assert.deepEqual(starts(windows), ["3000:1 4000:1 5000:1", "3000:1"]);
  assert.equal(windows.isFull, false);
  windows.onUpdate({ version: 2, series: [of("a", [point(2_000, 9)])], closed_until_ms: 0 });
  windows.onOlder({ series: [of("a", [point(1_000), point(2_000)])] });
  assert.deepEqual(starts(windows), ["1000:1 2000:9 3000:1 4000:1 5000:1", "3000:1"]);
  assert.equal(windows.isFull, true);
});

test("there are never more windows than there may be: the oldest go", () => {
  const windows = new Windows(100);
  const random = generator(1);
  windows.onState({ version: 0, series: [] });
  for (let version = 1; version < 500; version += 1) {
    const series = Array.from({ length: 3 }, (_, at) => of(`s${at}`, [point((version + Math.floor(random() * 3)) * 1_000)]));
    windows.onUpdate({ version, series, closed_until_ms: 0 });
    const all = [...windows.series.values()].flatMap(({ points }) => points);
    assert.ok(all.length <= 100, `${all.length} windows`);
    assert.ok(all.some(([start_ms]) => start_ms === windows.newest_ms), "the newest stay");
  }
});

test("a copy stays as it was", () => {
  const windows = new Windows();
  windows.onState({ version: 1, series: [of("a", [point(1_000)])] });
  const copy = windows.copy();
  windows.onUpdate({ version: 2, series: [of("a", [point(1_000, 9), point(2_000)])], closed_until_ms: 0 });
  assert.deepEqual([starts(copy), copy.newest_ms, copy.version], [["1000:1"], 1_000, 1]);
});
