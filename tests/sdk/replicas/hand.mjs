// The stage of `evil`: three replicas, a client of one of them whose calls another takes, and a hand in the Redis.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { until } from '../soak/report.mjs';
import { Fleet, PATIENT, keysOf } from './fleet.mjs';
import { found } from './gate.mjs';
import { call, open, within } from './wire.mjs';

export const TOKEN = `canary-token-${randomUUID()}`;
const BEARER = `Bearer ${TOKEN}`;

export class Stage {
  static async start(lane, work) {
    const stage = new Stage();
    const fleet = await (await Fleet.start(lane, work, ['a', 'b', 'c'], { flags: PATIENT })).warm();
    Object.assign(stage, { lane, fleet, redis: fleet.redis });
    stage.victim = await open(fleet.a.port, `Authorization: ${BEARER}\r\n`);
    stage.bystander = await open(fleet.c.port);
    stage.heard = 0;
    const { message } = stage.bystander;
    stage.bystander.message = it => (stage.heard++, message.call(stage.bystander, it));
    return stage;
  }

  // A call of the victim's, taken by b and handed to a.
  call = () => call(this.victim, this.fleet.b.port, { headers: { authorization: BEARER } });
  executed = ({ nonce }) => readFileSync(this.lane.log, 'utf8').split(nonce).length - 1;
  add = (name, entry) => this.redis.ask('XADD', keysOf(name).inbox, '*', 'e', entry);

  async entries(name) {
    const all = await this.redis.ask('XRANGE', keysOf(name).inbox, '-', '+');
    return all.map(([id, [, entry]]) => ({ id: `${id}`, entry: Buffer.from(entry) }));
  }

  // Keeps from `ferry` what is put into its inbox while `act` runs, until there are `count` entries, and takes it out. It
  // reads its inbox again with `letGo`; what it had been told before is lost.
  async seize(ferry, act, count = 1) {
    // What was read before is deleted with the next look into the inbox.
    const old = new Set((await this.entries(ferry.id)).map(({ id }) => id));
    const news = async () => (await this.entries(ferry.id)).filter(({ id }) => !old.has(id));
    const hold = ferry.gate.hold('answers', found);
    const made = act();
    const inTime = await within(
      10_000,
      hold.caught.then(() => true),
      false,
    );
    let taken = [];
    await until(5, async () => (taken = await news()).length >= count);
    if (!inTime || taken.length !== count) throw new Error(`${taken.length} entries seized instead of ${count}`);
    await this.redis.ask('XDEL', keysOf(ferry.id).inbox, ...taken.map(({ id }) => id));
    return { made, entries: taken.map(({ entry }) => entry), letGo: () => ferry.gate.cut() };
  }

  // How much these counters of what was found in an inbox grow while `act` runs, once they have grown by `enough`.
  async gained(ferry, outcomes, enough, act) {
    const total = async () => {
      const metrics = await ferry.metrics();
      return outcomes.reduce((sum, outcome) => sum + metrics.taken(outcome), 0);
    };
    const before = await total();
    await act();
    let gain = 0;
    await until(10, async () => (gain = (await total()) - before) >= enough);
    return gain;
  }
}

// Every byte changed, every kind of cut, and something added.
export const changed = entry => [
  ...Array.from(entry, (byte, at) => {
    const copy = Buffer.from(entry);
    copy[at] = byte ^ (1 << (at % 8));
    return copy;
  }),
  ...[0, 1, 2, 10, 30, entry.length - 1].map(length => entry.subarray(0, length)),
  Buffer.concat([entry, Buffer.from('x')]),
];
