import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";

const here = (/** @type {string} */ path) => new URL(`../../../web/vendor/${path}`, import.meta.url);

test("third-party files are identical to those of the packages named in README.md", () => {
  const require = createRequire(import.meta.url);
  for (const [file, from] of [["uPlot.iife.min.js", "dist/uPlot.iife.min.js"], ["uPlot.min.css", "dist/uPlot.min.css"], ["LICENSE", "LICENSE"]]) {
    const original = new URL(`../node_modules/uplot/${from}`, import.meta.url);
    assert.ok(readFileSync(here(`uplot/${file}`)).equals(readFileSync(original)), file);
  }
  const { version, license } = require("uplot/package.json");
  assert.match(readFileSync(here("README.md"), "utf8"), new RegExp(`\`uplot\` ${version.replaceAll(".", "\\.")} .*\\| ${license} \\|`));
});
