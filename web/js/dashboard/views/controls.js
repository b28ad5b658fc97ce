/** The controls of what is shown: topic, window, range, series, split, measure; and the button that pauses updates. */
import { fill, h, setAttribute, setText } from "../../dom.js";
import { byTag, ALL, EACH } from "../groups.js";
import { isTopic, RANGES_S, withRange } from "../choice.js";
import { span, time } from "../format.js";
import { MEASURES } from "../measures.js";

/**
 * @typedef {import("../choice.js").Choice} Choice
 *
 * @typedef {object} Page
 * @property {Choice} choice
 * @property {{now_ms: number} | null} held
 * @property {string[]} topics recent ones
 * @property {string} series the displayed one
 * @property {string} split how it is split
 * @property {import("../windows.js").Windows} windows
 *
 * @param {{onChoice: (choice: Choice) => void, onHold: () => void}} events
 */
export function controlsView({ onChoice, onHold }) {
  /** @type {Choice} */
  let choice;
  const choose = (/** @type {Partial<Choice>} */ part) => onChoice({ ...choice, ...part });
  const topic = topicField((name) => choose({ topic: name, series: null, split: null }));
  const windows = segments("window", "Window", [["1s", "1 s"], ["1m", "1 min"]], (value) => choose({ window: value === "1s" ? "1s" : "1m" }));
  const range = segments("range", "Range", RANGES_S.map((s) => [String(s), span(s)]), (value) => onChoice(withRange(choice, Number(value))));
  const series = select("series", "Series", (value) => choose({ series: value, split: null }));
  const split = select("split", "A line for", (value) => choose({ split: value }));
  const measure = select("measure", "Measure", (value) => choose({ measure: /** @type {any} */ (value) }));
  const hold = h("button", { type: "button", id: "hold", class: "hold", on: { click: onHold } });
  const ofTopic = [topic.node, series.node, split.node, measure.node];
  return {
    nodes: [topic.node, windows.node, range.node, series.node, split.node, measure.node, h("div", { class: "control hold-control" }, hold)],
    submit: () => topic.submit(),
    /** @param {Page} page */
    show(page) {
      choice = page.choice;
      const isTopicView = choice.view === "topic";
      for (const node of ofTopic) node.hidden = !isTopicView;
      topic.show(choice.topic, page.topics);
      windows.show(choice.window);
      range.show(String(choice.range_s));
      if (isTopicView) showOfTopic(page);
      setText(hold, page.held ? "Resume" : "Pause");
      setAttribute(hold, "aria-pressed", page.held !== null);
      setAttribute(hold, "title", page.held && `Held at ${time(page.held.now_ms, 1_000)}; what comes is kept`);
    },
  };

  /** @param {Page} page */
  function showOfTopic({ windows, series: name, split: by }) {
    const tags = windows.tagsOf(name);
    series.node.hidden = windows.names.length < 2;
    series.show(windows.names.map((known) => [known, known]), name);
    split.show([...tags.map((tag) => [byTag(tag), `each ${tag}`]), [EACH, "each series"], [ALL, "all together"]], by);
    measure.show(Object.entries(MEASURES).map(([id, { title }]) => [id, title]), choice.measure);
  }
}

/** @param {(topic: string) => void} onTopic */
function topicField(onTopic) {
  const list = h("datalist", { id: "topics" });
  const problem = h("span", { id: "topic-problem", class: "problem", role: "alert" });
  const input = h("input", { id: "topic", name: "topic", list: "topics", autocomplete: "off", autocapitalize: "none", spellcheck: "false", maxlength: 128, "aria-describedby": "topic-problem" });
  const submit = () => {
    const name = input.value.trim();
    const isGood = isTopic(name);
    setText(problem, isGood ? "" : "Letters, digits and _ - . : @");
    setAttribute(input, "aria-invalid", isGood ? null : "true");
    if (isGood) onTopic(name);
  };
  input.addEventListener("change", submit);
  let shown = "";
  return {
    node: h("div", { class: "control topic-control" }, h("label", { for: "topic" }, "Topic"), input, list, problem),
    submit,
    /** @param {string} topic @param {string[]} recent */
    show(topic, recent) {
      const state = JSON.stringify([topic, recent]);
      if (state === shown) return;
      shown = state;
      input.value = topic;
      fill(list, recent.map((name) => h("option", { value: name })));
    },
  };
}

/**
 * Radio buttons that look like one switch.
 * @param {string} name
 * @param {string} title
 * @param {string[][]} options value and label
 * @param {(value: string) => void} onChoice
 */
function segments(name, title, options, onChoice) {
  const inputs = options.map(([value]) => h("input", { type: "radio", name, value, id: `${name}-${value}`, on: { change: () => onChoice(value) } }));
  const labels = options.map(([value, label], at) => h("span", { class: "segment" }, inputs[at], h("label", { for: `${name}-${value}` }, label)));
  return {
    node: h("fieldset", { class: "control" }, h("legend", {}, title), h("div", { class: "segments" }, ...labels)),
    /** @param {string} value */
    show(value) {
      for (const input of inputs) if (input.checked !== (input.value === value)) input.checked = input.value === value;
    },
  };
}

/**
 * @param {string} id
 * @param {string} title
 * @param {(value: string) => void} onChoice
 */
function select(id, title, onChoice) {
  const field = h("select", { id, name: id, on: { change: () => onChoice(field.value) } });
  let shown = "";
  return {
    node: h("div", { class: "control" }, h("label", { for: id }, title), field),
    /** An open list stays open: only changed options are replaced.
     * @param {string[][]} options @param {string} value */
    show(options, value) {
      const state = JSON.stringify(options);
      if (state !== shown) fill(field, options.map(([option, label]) => h("option", { value: option }, label)));
      shown = state;
      if (field.value !== value) field.value = value;
    },
  };
}
