// The soak: real clients of many SDK versions call through the ferry while connections are cut, stalled and delayed on
// both sides, the upstream is killed and comes back, clients are killed, and some read a byte a second. What every call
// came to is held against the upstream's own log, and at the end everything must be back at its base.
//
//   node main.mjs MINUTES [--seed N]
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Lane } from './lane.mjs';
import { Ledger } from './ledger.mjs';
import { faults } from './faults.mjs';
import { pause, seeded } from './random.mjs';
import { check, close, shown, until } from './report.mjs';
import { Worker } from './workers.mjs';

const { values, positionals } = parseArgs({ options: { seed: { type: 'string' } }, allowPositionals: true });
const minutes = Number(positionals[0]);
if (!(minutes > 0)) {
  console.error('usage: main.mjs MINUTES [--seed N]');
  process.exit(2);
}
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
const random = seeded(seed);
const ledger = new Ledger();
ledger.slow = {}; // how the slow readers ended

const CLIENTS = {
  sessions: ['ts-1.0.4', 'ts-1.32.2', 'ts-2.4.0', 'py-1.2.0', 'py-1.30.0', 'py-2.3.0'],
  stateless: ['ts-1.10.2', 'py-1.9.4'],
};
// A slow reader is to be closed within the shortest soak.
const FLAGS = ['--client-stall-timeout', '10s', '--client-buffer', '1MiB'];
const FAULT_EVERY_MS = 500;
const WARM_UP_S = 12;
// A call's own limit is 100 s (the workers'), longer than the ferry tries to resume an answer; then it counts as silent.
const QUIET_WITHIN_S = 130;
// The same for what they leave behind, on a machine that is busy with other things.
const ENDED_WITHIN_S = 60;
// Once all have left, the ferry may hold what it held when warm and idle, and this much more: the allocator keeps partly
// used pages of every size class per worker thread (a few hundred KiB each), and how many differs with the load. Leaking
// a page per call would pass it after two thousand calls.
const RSS_SPARE_KIB = 8 * 1024;

// Everybody finishes, leaves, and the ferries are looked at when nothing is left.
async function rest(lanes, workers) {
  for (const worker of workers) worker.tell({ rest: true });
  const quiet = await until(QUIET_WITHIN_S, () => workers.every(worker => worker.rested) && !ledger.pending().length);
  const base = lane => lane.base === undefined || lane.usage().descriptors <= lane.base.descriptors;
  const ended = await until(ENDED_WITHIN_S, async () => {
    for (const lane of lanes) if ((await lane.sessions()) > (lane.excused ?? 0) || !base(lane)) return false;
    return true;
  });
  for (const worker of workers)
    if (!worker.rested)
      console.log(`not at rest: ${worker.client}: ${worker.program.ended ?? 'alive'} ${worker.program.tail(3)}`);
  for (const { client, tool } of ledger.pending().slice(0, 10)) console.log(`in flight: ${client}, ${tool}`);
  if (!ended)
    for (const lane of lanes) console.log(`${lane.mode}: still open at the relays: ${lane.leftOpen(workers)}`);
  // Connections to the upstream are kept for 4 s, freed memory for about one.
  await pause(6000);
  return { quiet, ended };
}

async function makeFaults(lanes, workers, end, used) {
  const list = Object.entries(faults).map(([name, fault]) => ({ name, ...fault }));
  let stop;
  const stopped = new Promise(resolve => (stop = resolve));
  const running = new Set();
  while (Date.now() < end) {
    await pause(random.between(FAULT_EVERY_MS / 2, FAULT_EVERY_MS * 1.5));
    const { name, run } = random.weighted(list);
    const worker = random.pick(workers);
    const slot = random.between(0, worker.relays.length - 1);
    const done = (async () => run({ random, worker, slot, ledger, stopped, lane: random.pick(lanes) }))();
    running.add(done);
    void done.finally(() => running.delete(done));
    // What lasts is not waited for; what had nothing to hit is not counted.
    if ((await Promise.race([done, undefined])) !== false) used[name] = (used[name] ?? 0) + 1;
  }
  stop();
  await Promise.all(running);
  for (const { relay } of lanes) relay.budgets.length = 0;
}

function minuteLine(minute, lanes) {
  const usage = lanes.map(
    lane => `${lane.mode} ${Math.round(lane.usage().rss / 1024)} MiB, ${lane.usage().descriptors} descriptors`,
  );
  console.log(
    `minute ${minute}: ${ledger.calls.size} calls, ${ledger.pending().length} in flight, ${shown(ledger.counts)}; ${usage.join('; ')}`,
  );
}

function verdicts(lanes, { quiet, ended }, left) {
  const found = ledger.audit(lanes.map(({ log }) => log));
  console.log(`outcomes of ${ledger.calls.size} calls: ${shown(ledger.counts)}`);
  console.log(`errors, reason/executed: ${shown(ledger.reasons)}`);
  console.log(
    `connections opened: ${ledger.opened}, came back by themselves: ${ledger.reconnected}; not opened: ${shown(ledger.notOpened)}`,
  );
  console.log(`slow readers: ${shown(ledger.slow)}; upstream executions: ${found.executions}`);
  check(
    'every call had exactly one outcome, its own',
    quiet && !ledger.faults.length && !ledger.pending().length,
    `${ledger.pending().length} open, ${ledger.faults.length} faults`,
  );
  check(
    'most calls succeeded, and faults were felt',
    ledger.counts.result > ledger.calls.size / 2 && ledger.counts.error > 0,
  );
  check('no call was executed twice', found.twice === 0, `${found.twice}`);
  check('nothing was executed that was said not to be', found.despiteNo === 0, `${found.despiteNo}`);
  check('nothing was answered or executed out of nothing', found.resultWithout + found.unknown === 0);
  check('descriptors and upstream sessions are back at base', ended);
  for (const [n, lane] of lanes.entries()) {
    const { base } = lane;
    const now = left[n];
    const detail = `${base.rss} KiB when warm and idle, ${now.rss} KiB now; descriptors ${base.descriptors}, ${now.descriptors}; sessions ${now.sessions} of at most ${lane.excused ?? 0} that our cuts may have orphaned; restarts ${lane.restarts}`;
    check(
      `${lane.mode}: memory, descriptors, sessions`,
      now.rss <= base.rss + RSS_SPARE_KIB && now.descriptors <= base.descriptors && now.sessions <= (lane.excused ?? 0),
      detail,
    );
  }
}

const look = lanes => Promise.all(lanes.map(async lane => ({ ...lane.usage(), sessions: await lane.sessions() })));

console.log(`seed ${seed}`);
const work = fileURLToPath(new URL('../../../target/soak', import.meta.url));
rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
const lanes = await Promise.all(Object.keys(CLIENTS).map(mode => new Lane(mode, `${work}/${mode}.log`).start(FLAGS)));
const workers = [];
for (const lane of lanes) {
  for (const client of CLIENTS[lane.mode]) {
    workers.push(
      await Worker.start(client, lane.ferry.port, { slots: 3, ledger, random, asksBack: lane.mode === 'sessions' }),
    );
  }
}
await pause(WARM_UP_S * 1000);
const warm = await rest(lanes, workers);
check(
  'the warm-up left nothing behind',
  warm.quiet && warm.ended && !ledger.faults.length,
  `${ledger.calls.size} calls, ${shown(ledger.counts)}`,
);
for (const lane of lanes) {
  lane.base = lane.usage();
}
for (const worker of workers) worker.tell({ rest: false });

const begun = Date.now();
const used = {};
let minute = 0;
const ticking = setInterval(() => minuteLine(++minute, lanes), 60_000);
await makeFaults(lanes, workers, begun + minutes * 60_000, used);
clearInterval(ticking);
minuteLine('last', lanes);
console.log(`faults: ${shown(used)}`);
const rested = await rest(lanes, workers);
verdicts(lanes, rested, await look(lanes));
for (const worker of workers) await worker.leave();
for (const lane of lanes) {
  const how = await lane.stop();
  check(
    `${lane.mode}: the ferry ends with 0`,
    how.every(code => code === 0),
    `${how}`,
  );
}
console.log(`seed ${seed}`);
close();
