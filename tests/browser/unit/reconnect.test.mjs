import assert from "node:assert/strict";
import { test } from "node:test";
import { afterClose, backoffMs } from "../../../web/js/reconnect.js";

test("each close code of the protocol leads back as it says", () => {
  const expected = {
    never: [1002, 1003, 1007, 1009, 4400, 4403, 4409],
    backoff: [1000, 1001, 1005, 1006, 1011, 1012, 4408, 4503, 4508, 4999],
    new_token: [4401],
    as_told: [4429],
  };
  for (const [then, codes] of Object.entries(expected)) {
    for (const code of codes) assert.equal(afterClose(code).then, then, String(code));
  }
});

test("the wait is random up to min(max, min · 2ⁿ)", () => {
  const bounds = { min_ms: 500, max_ms: 30_000 };
  assert.deepEqual([0, 1, 2, 5, 6, 60].map((attempt) => backoffMs(bounds, attempt, () => 1)), [500, 1_000, 2_000, 16_000, 30_000, 30_000]);
  assert.equal(backoffMs(bounds, 3, () => 0), 0);
  assert.equal(backoffMs(bounds, 3, () => 0.25), 1_000);
});
