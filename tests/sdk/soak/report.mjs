// What the rigs say: a line per check, counts in order, and the closing line that tests/run.sh reads.
import { pause } from './random.mjs';

let passed = 0;
let failed = 0;

export function check(name, good, detail = '') {
  if (good) passed++;
  else failed++;
  console.log(`${good ? 'ok   ' : 'FAIL '} ${name}${detail ? `: ${detail}` : ''}`);
}

// A check that fails by throwing.
export async function attempt(name, run) {
  try {
    await run();
    check(name, true);
  } catch (error) {
    check(name, false, error?.message ?? `${error}`);
  }
}

export function close() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed || !passed ? 1 : 0);
}

export const shown = counts =>
  Object.entries(counts)
    .sort()
    .map(([name, count]) => `${name} ${count}`)
    .join(', ') || 'none';

// Whether it came true in time.
export async function until(seconds, what) {
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; await pause(50)) {
    if (await what()) return true;
  }
  return false;
}
