import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { DARK, dashOf, LIGHT, LINES_MAX, Slots } from "../../../web/js/dashboard/palette.js";

/** Simulations of colour vision, from linear RGB to linear RGB (Machado, Oliveira, Fernandes 2009, severity 1). */
const VISIONS = {
  usual: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protanopia: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deuteranopia: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritanopia: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
/** The minimum distance of two colours in Oklab: 0.02 is just noticeable between adjacent patches, and thin lines need far more. */
const DISTANCE_MIN = 0.1;

const linear = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
const luminance = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
const seen = (colour, vision) => vision.map((row) => Math.min(1, Math.max(0, row.reduce((sum, part, at) => sum + part * colour[at], 0))));

/** @param {number[]} colour linear RGB */
function oklab([r, g, b]) {
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}

/** The tiles' background in each theme, from the stylesheet. */
function surfaces() {
  const style = readFileSync(new URL("../../../web/style.css", import.meta.url), "utf8");
  const [, light, dark] = /--surface: (#\w{6}).*?--surface: (#\w{6})/s.exec(style) ?? [];
  return { light, dark };
}

test("each line stands out from its tile", () => {
  const { light, dark } = surfaces();
  for (const [colours, surface] of [[LIGHT, light], [DARK, dark]]) {
    for (const colour of colours) {
      const [a, b] = [colour, surface].map((hex) => luminance(linear(hex))).sort((x, y) => y - x);
      assert.ok((a + 0.05) / (b + 0.05) >= 3, `${colour} on ${surface} (WCAG 2.2, 1.4.11)`);
    }
  }
});

test("no two colours look alike, whoever looks", () => {
  for (const colours of [LIGHT, DARK]) {
    for (const [name, vision] of Object.entries(VISIONS)) {
      colours.forEach((one, at) => {
        for (const other of colours.slice(0, at)) {
          const [a, b] = [one, other].map((hex) => oklab(seen(linear(hex), vision)));
          const distance = Math.hypot(...a.map((part, index) => part - b[index]));
          assert.ok(distance >= DISTANCE_MIN, `${one} and ${other}, ${name}: ${distance.toFixed(3)}`);
        }
      });
    }
  }
});

test("no two lines of a chart have the same colour and dash", () => {
  const looks = Array.from({ length: LINES_MAX }, (_, slot) => `${slot % LIGHT.length} ${dashOf(slot)}`);
  assert.equal(new Set(looks).size, LINES_MAX);
  assert.equal(LIGHT.length, DARK.length);
});

test("a group keeps its line, and the largest get one first", () => {
  const slots = new Slots();
  const groups = Array.from({ length: LINES_MAX + 2 }, (_, at) => ({ key: `g${at}`, weight: at }));
  const first = new Map(slots.assign(groups));
  assert.deepEqual([first.size, first.has("g0"), first.has("g1"), first.get("g2")], [LINES_MAX, false, false, 0]);
  const heavier = groups.map((group) => (group.key === "g0" ? { key: "g0", weight: 99 } : group));
  assert.deepEqual(new Map(slots.assign(heavier)), first, "existing groups keep their lines");
  const without = heavier.filter(({ key }) => key !== "g5");
  assert.equal(slots.assign(without).get("g0"), first.get("g5"), "the line of a removed group goes to the largest without one");
});
