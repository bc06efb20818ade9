// Stopping under load. First: more than 500 calls in flight, SIGTERM, and every one of them must come to its result or an
// error, on streams that end properly. Then: two ferries behind a balancer are restarted one after the other under
// TypeScript clients that reconnect by themselves, and no call may fail without its caller being told.
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Balancer } from './balancer.mjs';
import { Lane } from './lane.mjs';
import { Ledger } from './ledger.mjs';
import { choose, expected, longMenu } from './menu.mjs';
import { pause, seeded } from './random.mjs';
import { RawClient } from './raw.mjs';
import { check, close, shown, until } from './report.mjs';
import { Worker } from './workers.mjs';

const CLIENTS = ['ts-1.0.4', 'ts-1.10.2', 'ts-1.32.2', 'ts-2.4.0', 'py-1.9.4', 'py-1.30.0', 'py-2.3.0'];
const RETURNING = CLIENTS.filter(name => name.startsWith('ts-'));
const SLOTS = 4;
const CALLS = 12; // on each connection
const RAW = 30;
const DELAY_S = 2;
const TIMEOUT_S = 10;
const FLAGS = ['--drain-delay', `${DELAY_S}s`, '--drain-timeout', `${TIMEOUT_S}s`];

const seed = Math.floor(Math.random() * 2 ** 31);
const random = seeded(seed);
const work = fileURLToPath(new URL('../../../target/drain', import.meta.url));
const status = async (port, path) => {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { connection: 'close' } }).catch(() => ({
    status: 0,
  }));
  return answer.status;
};

const SAMPLING = { capabilities: { sampling: {} } };

function rawCalls(client, ledger, count) {
  const menu = longMenu('ts-1.0.4');
  for (let n = 0; n < count; n++) {
    const call = choose(random, menu);
    const nonce = crypto.randomUUID();
    ledger.hear({ call: nonce, tool: call.tool }, { client: 'raw' }, client);
    void client.call(call.tool, { key: nonce, ...call.args }).then(({ outcome, message, status: code }) => {
      const { reason, executed } = message?.error?.data?.ferry ?? {};
      const wrong = outcome === 'result' && message.result.content[0].text !== expected(call, nonce);
      ledger.ended({ end: nonce, outcome: wrong ? 'wrong' : outcome, reason, executed, detail: code });
    });
  }
  return client;
}

async function drain() {
  const ledger = new Ledger();
  const lane = await new Lane('sessions', `${work}/drain.log`).start(FLAGS);
  const { ferry } = lane;
  const workers = [];
  for (const client of CLIENTS) {
    const plan = { burst: CALLS, menu: longMenu(client), endsExpected: true };
    workers.push(await Worker.start(client, ferry.port, { slots: SLOTS, ledger, random, plan }));
  }
  const wanted = CLIENTS.length * SLOTS * CALLS + RAW * CALLS;
  const raws = await Promise.all(Array.from({ length: RAW }, () => RawClient.open(ferry.port, SAMPLING)));
  // All at once when all are there: the shortest call lasts some seconds, and processes start slowly on a busy machine.
  await until(120, () => ledger.opened === CLIENTS.length * SLOTS);
  for (const worker of workers) worker.tell({ fire: true });
  for (const raw of raws) rawCalls(raw, ledger, CALLS);
  const begun = () => readFileSync(lane.log, 'utf8').split('\n').length - 1;
  await until(30, () => begun() >= wanted);
  const inFlight = ledger.pending().length;
  check(
    'at least 500 calls are in flight',
    inFlight >= 500 && begun() >= 500,
    `${inFlight}, ${begun()} begun upstream`,
  );

  const asked = Date.now();
  ferry.child.kill('SIGTERM');
  check('readiness ends at once', await until(DELAY_S / 2, async () => (await status(ferry.port, '/readyz')) === 503));
  const late = await RawClient.open(ferry.port, SAMPLING)
    .then(raw => rawCalls(raw, ledger, 1))
    .catch(error => error);
  check(
    'a stream opened during the delay is served',
    late instanceof RawClient,
    late instanceof Error ? late.message : '',
  );
  if (late instanceof RawClient) raws.push(late);
  check('the process is still alive to its probe', (await status(ferry.port, '/healthz')) === 200);
  await pause(asked + DELAY_S * 1000 + 1000 - Date.now());
  const refused = await RawClient.open(ferry.port).catch(error => error);
  check('a stream opened afterwards is closed without an answer', refused instanceof Error, `${refused.message}`);

  const limit = DELAY_S + TIMEOUT_S + 15; // the farewells have limits of their own, some seconds each
  const how = await Promise.race([ferry.exit, pause(asked + limit * 1000 - Date.now()).then(() => 'still running')]);
  const took = ((Date.now() - asked) / 1000).toFixed(1);
  check('the ferry ends with 0, in time', how === 0, `${how} after ${took} s`);
  await until(10, () => !ledger.pending().length);
  const { counts, calls, faults } = ledger;
  console.log(`outcomes of ${calls.size} calls: ${shown(counts)}; errors, reason/executed: ${shown(ledger.reasons)}`);
  const told = (counts.result ?? 0) + (counts.error ?? 0);
  check(
    'no call is silent: each has its result or its error',
    told === calls.size && !faults.length,
    `${calls.size - told} without, ${faults.length} faults`,
  );
  check('there were both', counts.result > 100 && counts.error > 50);
  const ends = await Promise.all(raws.map(client => Promise.race([client.over, pause(5000)])));
  check(
    'streams end with their last chunk',
    ends.every(end => end === 'clean'),
    [...new Set(ends)].join(', '),
  );
  const found = ledger.audit([lane.log]);
  const bad = found.twice + found.despiteNo + found.resultWithout;
  check('nothing ran twice, or against its error', bad === 0, bad ? JSON.stringify(found) : '');
  check('sessions are deleted', (await lane.sessions()) === 0, `${await lane.sessions()}`);
  for (const worker of workers) await worker.leave();
  await lane.stop();
}

async function secondSignal() {
  const ledger = new Ledger();
  const lane = await new Lane('sessions', `${work}/signal.log`).start(FLAGS);
  const client = rawCalls(await RawClient.open(lane.ferry.port, SAMPLING), ledger, 1);
  lane.ferry.child.kill('SIGTERM');
  await until(2, async () => (await status(lane.ferry.port, '/readyz')) === 503);
  const asked = Date.now();
  lane.ferry.child.kill('SIGTERM');
  const how = await Promise.race([lane.ferry.exit, pause(5000).then(() => 'still running')]);
  check(
    'a second signal ends the ferry at once',
    how === 143 && Date.now() - asked < 1500,
    `${how} after ${Date.now() - asked} ms`,
  );
  client.socket.destroy();
  await lane.stop();
}

async function rollingRestart() {
  const ledger = new Ledger();
  const flags = ['--drain-delay', '1s', '--drain-timeout', '10s'];
  const lane = await new Lane('sessions', `${work}/rolling.log`).start(flags, 2);
  const balancer = new Balancer(lane.ferries.map(({ port }) => port));
  const workers = [];
  for (const client of RETURNING) {
    const plan = { returning: 1, endsExpected: true };
    workers.push(await Worker.start(client, balancer.forRelay, { slots: SLOTS, ledger, random, plan }));
  }
  await until(60, () => ledger.opened === RETURNING.length * SLOTS && ledger.counts.result > 100);
  for (const n of lane.ferries.keys()) {
    const { port } = lane.ferries[n];
    const how = await lane.ferries[n].end('SIGTERM', 60);
    check(`ferry ${n + 1} of 2 ends with 0`, how === 0, `${how}`);
    lane.ferries[n] = await lane.startFerry(flags, port);
    await until(10, () => balancer.isReady(port));
    await pause(6000); // clients find their way back
  }
  const before = ledger.counts.result;
  check('calls go on afterwards', await until(10, () => ledger.counts.result > before + 50));
  for (const worker of workers) worker.tell({ rest: true });
  await until(30, () => workers.every(worker => worker.rested) && !ledger.pending().length);
  const { counts, calls, faults } = ledger;
  console.log(`outcomes of ${calls.size} calls: ${shown(counts)}; errors, reason/executed: ${shown(ledger.reasons)}`);
  console.log(`connections opened: ${ledger.opened}, came back by themselves: ${ledger.reconnected}`);
  const untold =
    ledger.pending().length + (counts['stream-ended'] ?? 0) + (counts.silent ?? 0) + (counts['post-cut'] ?? 0);
  check(
    'no call failed without being told so',
    untold === 0 && !faults.length,
    `${untold} untold, ${faults.length} faults`,
  );
  check(
    'every client came back by itself',
    ledger.reconnected >= RETURNING.length * SLOTS,
    `${ledger.reconnected} times`,
  );
  const found = ledger.audit([lane.log]);
  const bad = found.twice + found.despiteNo + found.resultWithout;
  check('nothing ran twice, or against its error', bad === 0, bad ? JSON.stringify(found) : '');
  for (const worker of workers) await worker.leave();
  balancer.close();
  await lane.stop();
}

console.log(`seed ${seed}`);
rmSync(work, { recursive: true, force: true });
mkdirSync(work, { recursive: true });
for (const part of [drain, secondSignal, rollingRestart]) {
  console.log(`-- ${part.name}`);
  await part().catch(error => check(part.name, false, error.stack));
}
close();
