// The figures of the charts, from rows: rate, errors and latencies of the last five minutes. Pure.
import { isAsking, isBad } from './format.js';

export const SPAN = 300_000;
export const STEP = 5_000;

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)];

// What the ferry refuses at once would make the server's answers look fast.
const hasLatency = row => row.outcome !== 'refused';

// One bucket for every STEP of the SPAN that ends at `now`: requests begun a second, those that ended badly a second, and
// p50 and p99 in milliseconds of those that ended in it (undefined where none did). The last bucket is not over yet, so
// its rates are of the time that has passed.
export function series(rows, now) {
  const count = SPAN / STEP;
  const end = Math.floor(now / STEP) + 1;
  const buckets = Array.from({ length: count }, () => ({ begun: 0, bad: 0, ended: 0, took: [] }));
  const bucket = ms => buckets[count - (end - Math.floor(ms / STEP))];
  for (const row of rows) {
    if (!isAsking(row)) continue;
    const begun = bucket(row.started);
    if (begun) begun.begun++;
    if (row.ended === undefined || row.outcome === 'open') continue;
    const ended = bucket(row.ended);
    if (!ended) continue;
    if (isBad(row)) ended.bad++;
    ended.ended++;
    if (hasLatency(row)) ended.took.push(row.ended - row.started);
  }
  return buckets.map(({ begun, bad, ended, took }, i) => {
    took.sort((a, b) => a - b);
    const seconds = i === count - 1 ? Math.max(1, (now % STEP) / 1000) : STEP / 1000;
    return {
      ...{ rate: begun / seconds, errors: bad / seconds, bad },
      ...{ p50: percentile(took, 0.5), p99: percentile(took, 0.99), ended },
    };
  });
}

// The same two percentiles over the whole span, and its sums.
export function overall(rows, now) {
  const took = [];
  const sums = { begun: 0, bad: 0, ended: 0 };
  for (const row of rows) {
    if (!isAsking(row)) continue;
    if (row.started >= now - SPAN) sums.begun++;
    if (row.ended === undefined || row.outcome === 'open' || row.ended < now - SPAN) continue;
    if (isBad(row)) sums.bad++;
    sums.ended++;
    if (hasLatency(row)) took.push(row.ended - row.started);
  }
  took.sort((a, b) => a - b);
  return { ...sums, p50: percentile(took, 0.5), p99: percentile(took, 0.99) };
}
