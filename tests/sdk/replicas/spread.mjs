// Three ferries behind nginx without stickiness, and real clients of many versions: every call its own answer, none executed
// twice, none silent, and two posts of three taken by a replica that does not have the stream.
import { loadavg } from 'node:os';
import { seeded } from '../soak/random.mjs';
import { Ledger } from '../soak/ledger.mjs';
import { check, shown, until } from '../soak/report.mjs';
import { Worker } from '../soak/workers.mjs';
import { Fleet, PATIENT } from './fleet.mjs';
import { Nginx } from './nginx.mjs';

// 20 clients, by how many of each.
const CLIENTS = {
  'ts-1.0.4': 3,
  'ts-1.10.2': 3,
  'ts-1.32.2': 3,
  'ts-2.4.0': 3,
  'py-1.2.0': 2,
  'py-1.9.4': 2,
  'py-1.30.0': 2,
  'py-2.3.0': 2,
};
const COUNT = Object.values(CLIENTS).reduce((sum, count) => sum + count);
const CALLS = 1000;
// Turns give two of three; what a client posts to itself by chance moves it a little.
const SHARE = [0.6, 0.73];

export async function spread(lane, work) {
  const seed = Math.floor(Math.random() * 2 ** 31);
  console.log(`seed ${seed}`);
  const random = seeded(seed);
  const ledger = new Ledger();
  const fleet = await Fleet.start(lane, work, [undefined, undefined, undefined], {
    gates: false,
    flags: PATIENT,
  });
  const nginx = await Nginx.start(
    work,
    fleet.ferries.map(({ port }) => port),
  );
  const workers = [];
  // One program after another: starting them computes for seconds, and nobody is to wait for that.
  let wanted = 0;
  for (const [client, slots] of Object.entries(CLIENTS)) {
    workers.push(await Worker.start(client, nginx.port, { slots, ledger, random }));
    wanted += slots;
    await until(20, () => ledger.opened >= wanted);
  }
  const all = ledger.opened >= COUNT;
  check(
    `${COUNT} clients are connected`,
    all,
    `${ledger.opened} connections opened, not opened: ${shown(ledger.notOpened)}`,
  );
  await until(60, () => (ledger.counts.result ?? 0) >= CALLS);
  for (const worker of workers) worker.tell({ rest: true });
  const quiet = await until(60, () => workers.every(worker => worker.rested) && !ledger.pending().length);
  const { counts, calls } = ledger;
  console.log(`outcomes of ${calls.size} calls: ${shown(counts)}; errors, reason/executed: ${shown(ledger.reasons)}`);
  const good = (counts.result ?? 0) + (counts.cancelled ?? 0);
  check(
    'every call had exactly one outcome, its own',
    quiet && !ledger.faults.length,
    `${ledger.faults.length} faults`,
  );
  for (const { client, tool, outcome, detail } of calls.values())
    if (outcome !== 'result' && outcome !== 'cancelled')
      console.log(`   ${client}, ${tool}: ${outcome} ${detail ?? ''}`);
  check(
    'each is its result, or was cancelled',
    good === calls.size && counts.result >= CALLS,
    `${calls.size - good} others`,
  );
  const found = ledger.audit([lane.log]);
  check('no call was executed twice', found.twice === 0, `${found.twice} of ${found.executions}`);
  check('nothing was answered or executed out of nothing', found.resultWithout + found.unknown === 0);
  const metrics = await Promise.all(fleet.ferries.map(ferry => ferry.metrics()));
  const sum = of => metrics.reduce((total, each) => total + of(each), 0);
  const remote = sum(each => each.handed('answered'));
  const refused = {};
  for (const { values } of metrics)
    for (const [name, value] of values) {
      const [, outcome] = name.match(/handed_over_total\{outcome="(?!answered)(\w+)"/) ?? [];
      if (outcome && value) refused[outcome] = (refused[outcome] ?? 0) + value;
    }
  // What a busy machine does to the hand-overs shows here.
  for (const [n, { values }] of Object.keys(refused).length ? metrics.entries() : [])
    console.log(
      `   ferry ${n}: store errors ${values.get('mcp_ferry_store_errors_total')}; ${fleet.ferries[n].tail(4)}; load ${loadavg()[0].toFixed(0)}`,
    );
  const posts = sum(each => each.values.get('mcp_ferry_posts_total') ?? 0);
  check(
    'every hand-over was answered by the owner',
    !Object.keys(refused).length && remote > 0,
    `${remote} answered; not: ${shown(refused)}`,
  );
  const share = remote / posts;
  check(
    'two posts of three were taken by another replica than the one with the stream',
    share > SHARE[0] && share < SHARE[1],
    `${remote} of ${posts}`,
  );
  for (const worker of workers) await worker.leave();
  const gone = await until(15, async () => (await lane.sessions()) === 0);
  check('no session is left upstream', gone, `${await lane.sessions()}`);
  await nginx.stop();
  const how = await fleet.stop();
  check(
    'the ferries end with 0',
    how.every(code => code === 0),
    `${how}`,
  );
}
