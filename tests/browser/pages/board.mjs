/** A window with the dashboard, for the tests. */
import assert from "node:assert/strict";

export class Board {
  /** @param {import("playwright-core").Page} page */
  constructor(page) {
    this.page = page;
    this.state = page.locator(".line-state [role=status]");
    this.notice = page.locator(".remark");
    this.hold = page.locator("#hold");
    this.lines = page.locator(".line-tile .chart");
    this.legend = page.locator(".line-tile .legend button");
  }

  live() {
    return this.state.getByText("Live", { exact: true }).waitFor();
  }

  /** Waits until the table's row has these cells, from the first one on. */
  async row(label, ...cells) {
    const read = ([label, cells]) => {
      const rows = [...document.querySelectorAll("tbody tr")].filter((row) => row.checkVisibility());
      const row = rows.find((row) => row.querySelector("th span")?.textContent === label);
      const texts = [...(row?.querySelectorAll("td") ?? [])].map((cell) => cell.textContent);
      return row !== undefined && cells.every((cell, at) => cell === texts[at]);
    };
    try {
      await this.page.waitForFunction(read, [label, cells]);
    } catch {
      assert.deepEqual(await this.page.locator("tbody tr").allInnerTexts(), [label, ...cells], "the table's rows");
    }
  }
}
