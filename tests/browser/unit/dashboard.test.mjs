import assert from "node:assert/strict";
import { test } from "node:test";
import { formatChoice, isTopic, parseChoice, withRange } from "../../../web/js/dashboard/choice.js";
import { barsOf, lineOf, spanOf, timesOf } from "../../../web/js/dashboard/columns.js";
import { ALL, byTag, EACH, groupsOf, pointsOf, settled } from "../../../web/js/dashboard/groups.js";
import { number, past, span as spanText, time } from "../../../web/js/dashboard/format.js";
import { FIGURES, latest, silentSince, whole } from "../../../web/js/dashboard/nodes.js";
import { Windows } from "../../../web/js/dashboard/windows.js";

const S = 1_000;
/** A window with these values; its percentiles are the largest value. */
const point = (start_ms, ...values) => [start_ms, values.length, values.reduce((a, b) => a + b, 0), Math.min(...values), Math.max(...values), ...Array(3).fill(Math.max(...values))];

function shop() {
  const windows = new Windows();
  const series = [
    { series: "amount", tags: { country: "FR", status: "paid" }, points: [point(1 * S, 5), point(2 * S, 1, 2)] },
    { series: "amount", tags: { country: "DE", status: "paid" }, points: [point(1 * S, 10)] },
    { series: "amount", tags: { country: "DE", status: "refunded" }, points: [point(1 * S, -4), point(3 * S, 7)] },
    { series: "amount", points: [point(3 * S, 1)] },
    { series: "visits", tags: { country: "DE" }, points: [point(1 * S, 1)] },
  ];
  windows.onState({ version: 1, series });
  return windows;
}

test("series with the same value of a tag are put together, and those without it", () => {
  const groups = groupsOf(shop(), "amount", byTag("country"), 0);
  assert.deepEqual(groups.map(({ label, isOne }) => [label, isOne]), [["DE", false], ["FR", true], ["without", true]]);
  const [[, count, sum, min, max, p50]] = groups[0].points;
  assert.deepEqual([count, sum, min, max, p50], [2, 6, -4, 10, NaN], "percentiles of two windows can't be merged");
  assert.equal(groups[1].points[1][5], 2, "but a single window keeps its own");
});

test("a tag may be called as the words for each and all are", () => {
  const windows = new Windows();
  windows.onState({ version: 1, series: [{ series: "a", tags: { all: "x" }, points: [point(0, 1)] }, { series: "a", tags: { all: "y" }, points: [point(0, 1)] }] });
  assert.equal(groupsOf(windows, "a", byTag("all"), 0).length, 2);
  assert.equal(groupsOf(windows, "a", ALL, 0).length, 1);
});

test("each series by itself, all together, and only what is in the range", () => {
  assert.deepEqual(groupsOf(shop(), "amount", EACH, 0).map(({ label }) => label), ["DE · paid", "DE · refunded", "FR · paid", "no tags"]);
  const [all] = groupsOf(shop(), "amount", ALL, 2 * S);
  assert.deepEqual(all.points.map(([start_ms, count, sum]) => [start_ms, count, sum]), [[2 * S, 2, 3], [3 * S, 2, 8]]);
  assert.deepEqual(groupsOf(shop(), "amount", byTag("country"), 3 * S).map(({ label }) => label), ["DE", "without"]);
});

test("what is not there is not shown: the first series, split by its first tag", () => {
  const first = { series: "amount", split: byTag("country") };
  for (const choice of [{ series: null, split: null }, { series: "gone", split: byTag("gone") }]) assert.deepEqual(settled(choice, shop()), first);
  assert.deepEqual(settled({ series: "visits", split: byTag("status") }, shop()), { series: "visits", split: byTag("country") });
  assert.deepEqual(settled({ series: "visits", split: ALL }, shop()), { series: "visits", split: ALL });
  assert.deepEqual(settled(first, new Windows()), { series: "", split: EACH });
});

test("whatever the groups, together they are everything", () => {
  const sums = [EACH, ALL, byTag("country"), byTag("status")].map((split) => {
    const total = pointsOf(groupsOf(shop(), "amount", split, 0), 0);
    return total.map(([start_ms, count, sum, min, max]) => [start_ms, count, sum, min, max]);
  });
  for (const sum of sums) assert.deepEqual(sum, sums[0]);
});

test("a window still grows until it has ended and something newer has been seen, or a second has passed", () => {
  const choice = { window_ms: S, range_ms: 60 * S };
  const edge = (windows, now_ms) => spanOf({ newest_ms: 0, closed_until_ms: 0, ...windows }, choice, now_ms).edge_ms;
  assert.equal(edge({ newest_ms: 9 * S }, 9 * S + 900), 9 * S);
  assert.equal(edge({ newest_ms: 9 * S }, 10 * S + 100), 9 * S, "an update may be on its way");
  assert.equal(edge({ newest_ms: 10 * S }, 10 * S + 300), 10 * S);
  assert.equal(edge({ newest_ms: 2 * S }, 11 * S + 1), 10 * S, "a quiet topic moves on too");
  assert.equal(edge({ newest_ms: 60 * S }, 10 * S + 1), 10 * S, "events from the future complete no windows");
  assert.equal(edge({ newest_ms: 9 * S, closed_until_ms: 99 * S }, 10 * S), 10 * S);
  assert.deepEqual(spanOf({ newest_ms: 0, closed_until_ms: 0 }, { window_ms: 60 * S, range_ms: 60 * S }, 600 * S), { window_ms: 60 * S, from_ms: 540 * S, edge_ms: 540 * S, to_ms: 660 * S }, "two windows at least");
});

test("a line has a value for each window: nothing counts 0, but nobody knows its mean, nor what was before the first one", () => {
  const span = { window_ms: S, from_ms: 0, edge_ms: 5 * S, to_ms: 6 * S };
  const points = [point(1 * S, 3), point(3 * S, 5, 6), point(5 * S, 9)];
  assert.deepEqual(timesOf(span), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(lineOf(points, "count", span, 1 * S), [null, 1, 0, 2, 0, null], "a growing window would look like a drop");
  assert.deepEqual(lineOf(points, "sum", span, 0), [0, 3, 0, 11, 0, null]);
  assert.deepEqual(lineOf(points, "mean", span, 0), [null, 3, null, 5.5, null, 9]);
  assert.deepEqual(lineOf([[...point(1 * S, 1).slice(0, 5), NaN, NaN, NaN]], "p95", span, 0), Array(6).fill(null));
  assert.deepEqual(lineOf(points, "count", { ...span, from_ms: 3 * S }, 9 * S), [2, null, null], "other points are left out");
  assert.deepEqual(barsOf(points, "count", span), [[null, 1, null, 2, null, null], [null, null, null, null, null, 1]]);
});

test("the address says what is shown, and what makes no sense is left out", () => {
  const choice = { view: "topic", topic: "sales:eu", window: "1m", range_s: 900, series: "a b&c", split: "tag:country", measure: "p95" };
  assert.deepEqual(parseChoice(formatChoice(choice)), choice);
  const usual = { view: "topic", topic: "orders", window: "1s", range_s: 60, series: null, split: null, measure: "count" };
  assert.deepEqual(parseChoice(""), usual);
  assert.deepEqual(parseChoice("#topic=a%20b&window=2s&range=7&measure=toString&view=x"), usual);
  assert.deepEqual(parseChoice("#", "last").topic, "last");
  assert.equal(formatChoice({ ...usual, view: "nodes" }), "#view=nodes&window=1s&range=60");
  assert.deepEqual([isTopic("$node"), isTopic("a$"), isTopic(""), isTopic("x".repeat(129))], [true, false, false, false]);
});

test("a range brings its window along, unless another one was chosen", () => {
  const choice = parseChoice("#range=60&window=1s");
  assert.deepEqual([withRange(choice, 3_600).window, withRange(choice, 300).window], ["1m", "1s"]);
  assert.equal(withRange({ ...choice, window: "1m" }, 300).window, "1m");
});

test("what the nodes are together: a sum, or the slowest", () => {
  const span = { window_ms: S, from_ms: 0, edge_ms: 10 * S, to_ms: 11 * S };
  const [connections, latency] = ["connections", "send_duration_ms"].map((name) => FIGURES.find(({ series }) => series === name));
  const group = (...points) => ({ key: "k", label: "n1", isOne: true, points });
  assert.equal(latest(group(point(9 * S, 4), point(10 * S, 400)), span), 4, "the newest complete window");
  assert.equal(latest(group(point(9 * S, 3, 5)), span), 4, "two events in one second don't add up");
  assert.equal(latest(group(point(2 * S, 3)), span), null, "too old to count");
  assert.equal(whole(connections, [3, null, 4]), 7);
  assert.equal(whole(latency, [3, null, 4]), 4);
  assert.equal(whole(latency, [null]), null);
  assert.equal(silentSince(group(point(9 * S, 1)), span), null);
  assert.equal(silentSince(group(point(3 * S, 1)), span), 4 * S);
});

test("every figure has another name", () => {
  assert.equal(new Set(FIGURES.map(({ series }) => series)).size, FIGURES.length);
});

test("numbers, times and spans are short, and what is not known is a dash", () => {
  assert.deepEqual([null, undefined, NaN].map(number), ["–", "–", "–"]);
  assert.deepEqual([number(7), number(0), number(-3)], ["7", "0", "-3"]);
  assert.match(number(12.5), /^12\D50$/);
  assert.match(number(0.00123), /^0\D00123$/);
  assert.ok(number(123_456_789).length <= 8);
  assert.match(time(0, S), /^\d\d\D\d\d\D\d\d$/);
  assert.match(time(0, 60 * S), /^\d\d\D\d\d$/);
  assert.deepEqual([60, 300, 3_600].map(spanText), ["1 min", "5 min", "1 h"]);
  assert.deepEqual([60, 300, 3_600].map(past), ["minute", "5 minutes", "hour"]);
});
