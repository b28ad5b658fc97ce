/** Seeded randomness, so that a failed run can be repeated: SEED=n npm run unit. */

const RUNS = 400;

/** @param {number} seed @returns {() => number} in [0, 1) (mulberry32) */
export function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** @returns {number[]} the seed in SEED, or new ones */
export function seeds() {
  if (process.env.SEED) return [Number(process.env.SEED)];
  const first = Math.floor(Math.random() * 2 ** 31);
  return Array.from({ length: RUNS }, (_, at) => first + at);
}

/** @template T @param {() => number} random @param {T[]} items @returns {T} */
export function pick(random, items) {
  return items[Math.floor(random() * items.length)];
}
