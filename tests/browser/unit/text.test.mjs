import assert from "node:assert/strict";
import { test } from "node:test";
import { isName, listNames, mentionsIn, namesIn, partsOf } from "../../../web/js/text.js";

const isMember = (name) => ["bob", "a.b", "carol"].includes(name);

test("names are what the protocol takes", () => {
  for (const name of ["a", "A-Z_0.9:@", "x".repeat(128)]) assert.ok(isName(name), name);
  for (const name of ["", "a b", "é", "x".repeat(129), "a/b"]) assert.ok(!isName(name), name);
});

test("several names, each once", () => {
  assert.deepEqual(namesIn(" bob, carol;bob  dave\n"), ["bob", "carol", "dave"]);
});

test("members are mentioned, each once, punctuation left out", () => {
  assert.deepEqual(mentionsIn("@bob and @carol: hear @a.b. And @bob!", isMember), ["bob", "carol", "a.b"]);
  assert.deepEqual(mentionsIn("mail me@bob or @bobby, @dave", isMember), []);
});

test("a message falls into text, mentions and links, with nothing lost", () => {
  const text = "Hi @bob, see https://example.org/a?b=c. And @dave";
  const parts = partsOf(text, isMember);
  assert.deepEqual(parts.map(({ kind }) => kind), ["text", "mention", "text", "link", "text"]);
  assert.equal(parts[3].text, "https://example.org/a?b=c");
  assert.equal(parts.map((part) => part.text).join(""), text);
});

test("a mention inside a link stays a link", () => {
  assert.deepEqual(partsOf("https://x.org/@bob", isMember), [{ kind: "link", text: "https://x.org/@bob" }]);
});

test("lists of names stay short", () => {
  assert.equal(listNames(["a"]), "a");
  assert.equal(listNames(["a", "b", "c"]), "a, b and c");
  assert.equal(listNames(["a", "b", "c", "d"]), "a, b and 2 others");
});
