/**
 * Whether and when to reconnect after a socket closed (PROTOCOL §2 and §7). Pure.
 *
 * @typedef {"backoff"|"new_token"|"as_told"|"never"} Return
 */

/** @type {Record<number, {then: Return, why: string}>} */
const CLOSED = {
  1002: { then: "never", why: "The server and this page do not understand each other. Reload the page." },
  1003: { then: "never", why: "The server and this page do not understand each other. Reload the page." },
  1007: { then: "never", why: "The server and this page do not understand each other. Reload the page." },
  1009: { then: "never", why: "Something sent was larger than the server takes. Reload the page." },
  4400: { then: "never", why: "The server and this page do not understand each other. Reload the page." },
  4401: { then: "new_token", why: "The sign-in ran out." },
  4403: { then: "never", why: "An administrator ended this session." },
  4409: { then: "never", why: "This session went on in another tab." },
  4429: { then: "as_told", why: "Too much at once. Waiting as the server asks." },
};

/**
 * @param {number} code a close code; unknown ones count as a broken connection
 * @returns {{then: Return, why: string}}
 */
export function afterClose(code) {
  return CLOSED[code] ?? { then: "backoff", why: "The connection broke." };
}

/**
 * A random time up to min(max_ms, min_ms · 2ⁿ), so that a node's clients do not all reconnect at once.
 * @param {{min_ms: number, max_ms: number}} bounds
 * @param {number} attempt 0 for the first
 * @param {() => number} random in [0, 1)
 * @returns {number} milliseconds
 */
export function backoffMs({ min_ms, max_ms }, attempt, random) {
  return random() * Math.min(max_ms, min_ms * 2 ** attempt);
}
