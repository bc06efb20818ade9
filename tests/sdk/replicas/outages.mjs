// A Redis that goes away, comes back empty, pauses, is slow, or is another one from now on: what has its owner goes on, what
// would have crossed is refused with a time to come back, and streams live through all of it.
import { pause } from '../soak/random.mjs';
import { check, until } from '../soak/report.mjs';
import { readFileSync } from 'node:fs';
import { Fleet, isReady, readiness } from './fleet.mjs';
import { Redis } from './redis.mjs';
import { call, open, within } from './wire.mjs';

const POSTS = 8;

class Stage {
  static async start(lane, work, name) {
    const stage = new Stage();
    const own = `${work}/${name}`;
    const fleet = await (await Fleet.start(lane, own, ['a', 'b'])).warm();
    return Object.assign(stage, { lane, name, fleet, work: own, client: await open(fleet.a.port) });
  }

  check = (what, good, detail) => check(`${this.name}: ${what}`, good, detail);

  // Posts one after another, each given time to come to something.
  async series(port, count = POSTS) {
    const all = [];
    for (let n = 0; n < count; n++) {
      const made = call(this.client, port);
      const answer = await made.posted;
      all.push({
        ...answer,
        made,
        ended: answer.status === 202 ? await within(5000, made.outcome, 'nothing') : undefined,
      });
    }
    return all;
  }

  executed = made => readFileSync(this.lane.log, 'utf8').includes(made.nonce);
  local = () => this.series(this.fleet.a.port);
  remote = count => this.series(this.fleet.b.port, count);

  async localGoesOn() {
    const all = await this.local();
    const slowest = Math.max(...all.map(({ ms }) => ms));
    this.check('posts to the owner go on', isServed(all), `slowest ${slowest.toFixed(0)} ms`);
  }

  // Every one 503 with Retry-After, soon, and then never executed.
  async remoteIsRefused() {
    const all = await this.remote(4);
    const slowest = Math.max(...all.map(({ ms }) => ms));
    const refused = all.every(({ status, headers }) => status === 503 && headers['retry-after'] === '1');
    this.check(
      'posts to another get 503 with Retry-After, soon',
      refused && slowest < 2000,
      `${all.map(({ status }) => status)}, slowest ${slowest.toFixed(0)} ms`,
    );
    return all.map(({ made }) => made);
  }

  async isWhole(refused = []) {
    const begun = Date.now();
    const back = await until(20, async () => isServed(await this.remote(1)));
    const good =
      back && isServed(await this.remote()) && (await isReady(this.fleet.a)) && (await isReady(this.fleet.b));
    this.check(
      'afterwards posts cross again, on the same stream',
      good,
      `after ${((Date.now() - begun) / 1000).toFixed(1)} s`,
    );
    const wrong = refused.filter(this.executed);
    if (refused.length)
      this.check('what was refused was never executed', wrong.length === 0, `${wrong.length} of ${refused.length}`);
  }

  async end() {
    this.client.socket.destroy();
    const how = await this.fleet.stop();
    this.check(
      'the ferries end with 0',
      how.every(code => code === 0),
      `${how}`,
    );
  }
}

const isServed = all => all.every(({ status, ended }) => status === 202 && ended === 'result');

async function restarted(stage) {
  const { fleet } = stage;
  await fleet.redis.kill();
  await stage.localGoesOn();
  const refused = await stage.remoteIsRefused();
  const { status, text } = await readiness(fleet.b);
  stage.check('readiness says degraded, and not unready', status === 200 && /degraded/.test(text), text.trim());
  await fleet.redis.begin();
  await stage.isWhole(refused);
}

// As `FLUSHALL` leaves it: nobody is connected anew, and every heartbeat is gone.
async function emptied(stage) {
  await stage.fleet.redis.ask('FLUSHALL');
  const [first] = await stage.remote(1);
  stage.check(
    'the next post waits for its owner to announce itself',
    isServed([first]),
    `${first.status} after ${first.ms.toFixed(0)} ms`,
  );
  await stage.isWhole();
}

async function paused(stage) {
  await stage.fleet.redis.ask('CLIENT', 'PAUSE', '4000', 'ALL');
  const begun = Date.now();
  const [refused] = await Promise.all([stage.remoteIsRefused(), stage.localGoesOn()]);
  stage.check('all of that was during the pause', Date.now() - begun < 4000);
  await pause(4500 - (Date.now() - begun));
  await stage.isWhole(refused);
}

async function slow(stage) {
  const { a, b } = stage.fleet;
  a.gate.latency = b.gate.latency = 40;
  const all = await stage.remote();
  const fastest = Math.min(...all.map(({ ms }) => ms));
  stage.check(
    'with 80 ms of round trip posts cross, in two of them',
    isServed(all) && fastest >= 160,
    `${all.map(({ status, ended }) => [status, ended])}; fastest ${fastest.toFixed(0)} ms`,
  );
  await stage.localGoesOn();
  a.gate.latency = b.gate.latency = 0;
  await stage.isWhole();
}

async function promoted(stage) {
  const { fleet, work } = stage;
  const other = await Redis.start(work, { replicaOf: fleet.redis.port });
  stage.check('the replica follows', await other.isSynced());
  const before = fleet.redis;
  await before.kill();
  await other.ask('REPLICAOF', 'NO', 'ONE');
  fleet.redis = other;
  for (const { gate } of fleet.ferries) gate.lead(other.port);
  await stage.localGoesOn();
  await stage.isWhole();
}

const TROUBLES = { restarted, emptied, paused, slow, promoted };

export async function outages(lane, work) {
  const one = async ([name, trouble]) => {
    const stage = await Stage.start(lane, work, name);
    await trouble(stage);
    await stage.end();
  };
  await Promise.all(
    Object.entries(TROUBLES).map(entry => one(entry).catch(error => check(entry[0], false, error.stack))),
  );
}
