// A Redis in other people's hands: it copies entries, changes them, repeats them, turns them around, puts them into other
// inboxes, keeps them back and makes some up. It must gain nothing, and must not be able to read a word.
import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { pause } from '../soak/random.mjs';
import { check, until } from '../soak/report.mjs';
import { isReady, keysOf } from './fleet.mjs';
import { WITHDRAWAL } from './gate.mjs';
import { Stage, TOKEN, changed } from './hand.mjs';
import { call, open, within } from './wire.mjs';

// Longer than any message may be on its way.
const KEPT_BACK_MS = 61_000;

async function repeated(stage) {
  const { a, b, c } = stage.fleet;
  const { made, entries, letGo } = await stage.seize(a, stage.call);
  const [entry] = entries;
  const again = await stage.gained(a, ['repeated'], 5, async () => {
    for (let n = 0; n < 3; n++) await stage.add('a', entry);
    letGo();
    const { status } = await made.posted;
    check('an entry that lies there three times is taken', status === 202 && (await made.outcome) === 'result', status);
    for (let n = 0; n < 3; n++) await stage.add('a', entry);
  });
  check(
    'and executed once; the copies are seen to be copies',
    stage.executed(made) === 1 && again === 5,
    `${stage.executed(made)} times; ${again} refused`,
  );
  const foreign = await stage.gained(c, ['unopened'], 2, async () => {
    await stage.add('c', entry);
    await stage.add('c', entry);
  });
  const back = await stage.gained(b, ['unopened'], 1, () => stage.add('b', entry));
  check('in another inbox it opens for nobody', foreign === 2 && back === 1, `${foreign} and ${back} refused`);
  check('and nothing was executed for it', stage.executed(made) === 1);
  return entry;
}

async function altered(stage) {
  const { a } = stage.fleet;
  const { made, entries, letGo } = await stage.seize(a, stage.call);
  const all = changed(entries[0]);
  const refused = await stage.gained(a, ['unopened', 'malformed'], all.length, async () => {
    await Promise.all(all.map(entry => stage.add('a', entry)));
    letGo();
  });
  check(
    'each byte of an entry changed, and each cut: all are refused',
    refused === all.length,
    `${refused} of ${all.length}`,
  );
  const answer = await made.posted;
  check(
    'the poster is told 503, and it was not executed',
    answer.status === 503 && stage.executed(made) === 0,
    `${answer.status} after ${(answer.ms / 1000).toFixed(1)} s`,
  );
  // Its poster gave it up 5 s ago, and says so to the owner at about this time.
  await until(5, async () => (await a.metrics()).taken('withdrawn') === 1);
  const back = await stage.gained(a, ['repeated'], 1, () => stage.add('a', entries[0]));
  check('the original, brought when it was given up, is not executed either', back === 1 && stage.executed(made) === 0);
}

// Kept back together with the word that it was given up, and brought when nobody thinks of it any more.
async function keptBack(lane, work) {
  const stage = await Stage.start(lane, work);
  const { a } = stage.fleet;
  const { made, entries, letGo } = await stage.seize(a, stage.call);
  const withdrawal = await stage.seize(a, () => letGo());
  withdrawal.letGo();
  const { status } = await made.posted;
  await pause(KEPT_BACK_MS);
  await isReady(a);
  await stage.gained(a, ['request', 'repeated', 'late'], 1, () => stage.add('a', entries[0]));
  await pause(500);
  check(
    `an entry kept back for ${KEPT_BACK_MS / 1000} s, and its withdrawal for ever, is not executed`,
    status === 503 && withdrawal.entries[0][0] === WITHDRAWAL && stage.executed(made) === 0,
    `posted: ${status}; executed: ${stage.executed(made)}`,
  );
  for (const client of [stage.victim, stage.bystander]) client.socket.destroy();
  await stage.fleet.stop();
}

async function reordered(stage) {
  const { a } = stage.fleet;
  const count = 6;
  const { made, entries, letGo } = await stage.seize(a, () => Array.from({ length: count }, stage.call), count);
  for (const entry of [...entries].reverse()) for (let n = 0; n < 2; n++) await stage.add('a', entry);
  letGo();
  const statuses = await Promise.all(made.map(async each => (await each.posted).status));
  const outcomes = await Promise.all(made.map(each => within(5000, each.outcome, 'nothing')));
  const once = made.every(each => stage.executed(each) === 1);
  check(
    `${count} entries turned around, each twice: each executed once, and its own answer`,
    statuses.every(status => status === 202) && outcomes.every(it => it === 'result') && once,
    `${statuses}; ${outcomes}`,
  );
}

async function acknowledged(stage) {
  const { a, b } = stage.fleet;
  const first = await stage.seize(b, stage.call);
  const [answer] = first.entries;
  const all = changed(answer);
  const refused = await stage.gained(b, ['unopened', 'malformed'], all.length, async () => {
    await Promise.all(all.map(entry => stage.add('b', entry)));
    first.letGo();
  });
  const still = await within(0, first.made.posted, undefined);
  check(
    'no changed acknowledgement is believed',
    refused === all.length && still === undefined,
    `${refused} of ${all.length} refused`,
  );
  const unasked = await stage.gained(b, ['unasked'], 1, async () => {
    await stage.add('b', answer);
    await stage.add('b', answer);
  });
  const { status } = await first.made.posted;
  check('the right one is, once', status === 202 && unasked === 1, `${status}; ${unasked} refused`);
  // The next request never reaches its owner: no old acknowledgement stands for its own.
  const next = await stage.seize(a, stage.call);
  const number = 2 + answer[1] + 16;
  const renumbered = [1, 2, 3, 4].map(more => {
    const copy = Buffer.from(answer);
    copy.writeBigUInt64BE(copy.readBigUInt64BE(number) + BigInt(more), number);
    return copy;
  });
  const asThis = Buffer.from(answer);
  next.entries[0].copy(asThis, number, number, number + 8);
  const forged = [answer, asThis, ...renumbered];
  const gain = await stage.gained(b, ['unasked', 'unopened'], forged.length, () =>
    Promise.all(forged.map(entry => stage.add('b', entry))),
  );
  next.letGo();
  const told = await next.made.posted;
  check(
    'and none stands for a request that its owner never saw',
    told.status === 503 && gain === forged.length && stage.executed(next.made) === 0,
    `${told.status}; ${gain} refused`,
  );
}

// To the same name in another process: what was executed there is not executed here.
async function outlived(stage, entry) {
  const { fleet } = stage;
  const log = () => readFileSync(stage.lane.log, 'utf8').length;
  await fleet.a.end('SIGTERM', 20);
  fleet.ferries[0] = fleet.a = await fleet.startFerry('a', fleet.a.gate);
  const before = log();
  const taken = await stage.gained(fleet.a, ['request', 'late', 'unopened', 'repeated', 'malformed'], 1, () =>
    stage.add('a', entry),
  );
  await pause(500);
  check(
    'an entry kept for the successor of the same name does nothing',
    taken === 1 && log() === before,
    `${taken} refused or unknown`,
  );
}

async function nonsense(stage) {
  const { redis, fleet } = stage;
  const { inbox, heartbeat } = keysOf('a');
  const client = await open(fleet.a.port);
  const both = async () =>
    [await call(client, fleet.a.port).posted, await call(client, fleet.b.port).posted].map(({ status }) => status);
  await redis.ask('XADD', inbox, '*', 'f', 'x');
  await redis.ask('XADD', inbox, '*', 'e', 'x', 'e', 'y');
  for (const size of [1, 26, 100, 1 << 20]) await stage.add('a', randomBytes(size));
  check('nonsense in an inbox is passed over', await until(5, async () => `${await both()}` === '202,202'));
  await redis.ask('DEL', inbox);
  await redis.ask('SET', inbox, 'a text');
  const [own] = await both();
  await redis.ask('DEL', inbox);
  check('an inbox that is none harms nothing on its owner', own === 202, own);
  check(
    'and posts cross again when it is gone',
    (await until(10, async () => `${await both()}` === '202,202')) && (await isReady(fleet.a)),
  );
  await redis.ask('SET', heartbeat, 'somebody else', 'PX', '60000');
  await pause(6000);
  const [mine] = await both();
  await redis.ask('DEL', heartbeat);
  check('another heartbeat under its name harms nothing on the owner', mine === 202, mine);
  check(
    'and posts cross again when that is gone',
    (await until(15, async () => `${await both()}` === '202,202')) && (await isReady(fleet.a)),
  );
  client.socket.destroy();
}

// What a reader of everything sees: commands as they come, and values as they lie there.
async function read(stage, monitor) {
  const { redis, fleet, victim } = stage;
  const { made, entries, letGo } = await stage.seize(fleet.a, stage.call);
  await stage.add('a', entries[0]);
  const dumps = [];
  for (const key of await redis.ask('KEYS', '*')) dumps.push(key, await redis.ask('DUMP', key));
  letGo();
  await made.posted;
  await made.outcome;
  await redis.ask('ECHO', `seen by the monitor ${stage.proof}`);
  await until(5, () => monitor.lines.some(line => line.includes(`seen by the monitor ${stage.proof}`)));
  monitor.stop();
  const [, id] = victim.path.match(/sessionId=([^&]+)/);
  const secrets = { token: TOKEN, nonce: made.nonce, 'connection id': id, 'name of the tool': 'tools/call' };
  const seen = Buffer.concat([Buffer.from(monitor.lines.join('\n')), ...dumps.filter(Buffer.isBuffer)]);
  const forms = text => [text, Buffer.from(text).toString('hex'), Buffer.from(text).toString('base64').slice(0, -4)];
  for (const [what, secret] of Object.entries(secrets))
    check(`no ${what} in any key, value or command`, !forms(secret).some(form => seen.includes(form)));
  const scripts = monitor.lines.filter(line => /evalsha/i.test(line)).length;
  check(
    'the reader did read',
    scripts > 20 && dumps.length >= 8 && seen.includes(stage.proof),
    `${monitor.lines.length} lines, ${scripts} scripts, ${dumps.length / 2} keys`,
  );
}

async function direct(lane, work) {
  const stage = await Stage.start(lane, work);
  stage.proof = randomUUID();
  const monitor = await stage.redis.monitor();
  const entry = await repeated(stage);
  await reordered(stage);
  await altered(stage);
  await acknowledged(stage);
  await read(stage, monitor);
  check("nobody else's stream was given anything", stage.heard === 0, `${stage.heard} messages`);
  const { fleet } = stage;
  const made = call(stage.bystander, fleet.a.port);
  check('and that stream lives', (await made.posted).status === 202 && (await made.outcome) === 'result');
  await outlived(stage, entry);
  await nonsense(stage);
  for (const client of [stage.victim, stage.bystander]) client.socket.destroy();
  const how = await fleet.stop();
  check(
    'the ferries end with 0',
    how.every(code => code === 0),
    `${how}`,
  );
}

export async function evil(lane, work) {
  const parts = { direct, keptBack };
  await Promise.all(
    Object.entries(parts).map(([name, part]) =>
      part(lane, `${work}/${name}`).catch(error => check(name, false, error.stack)),
    ),
  );
}
