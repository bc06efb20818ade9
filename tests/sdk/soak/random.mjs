// A small seeded generator (mulberry32), so that a run's faults and calls can be drawn again from its printed seed.
// Only what is drawn is repeated: when it meets what is the machine's to say.
export function seeded(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const between = (low, high) => low + Math.floor(next() * (high - low + 1));
  const pick = list => list[Math.floor(next() * list.length)];
  // Entries are `{ weight, ... }`.
  const weighted = list => {
    let left = next() * list.reduce((sum, { weight }) => sum + weight, 0);
    return list.find(({ weight }) => (left -= weight) < 0) ?? list.at(-1);
  };
  return { next, between, pick, weighted };
}

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
