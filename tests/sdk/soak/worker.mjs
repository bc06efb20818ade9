// One process with several real TypeScript clients that call without end: `node worker.mjs PLAN`, PLAN being JSON made
// by `workers.mjs`. Says on stdout when a call begins and how it ends, a JSON line each; hears on stdin what the outside
// did to its connections, and when to rest, to go on and to leave. `worker.py` is the same for the Python SDKs.
//
// How a call can end: result, error (JSON-RPC), tool-error (the server's own), cancelled, post-failed (the client was
// told that its message did not arrive), stream-ended, post-cut (its connection was broken by the chaos, and this SDK
// tells nobody). What must not be: wrong (another answer), doubled, silent.
import { createInterface } from 'node:readline';
import { randomUUID } from 'node:crypto';
import { opener } from '../clients/ts-peers.mjs';
import { choose, expected } from './menu.mjs';
import { pause, seeded } from './random.mjs';

const plan = JSON.parse(process.argv[2]);
const open = await opener(plan.client);
const random = seeded(plan.seed);
const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);
let resting = false;
let startFire;
const fire = new Promise(resolve => (startFire = resolve));
process.on('unhandledRejection', error => console.error('unhandled:', error?.message ?? error));

function classify(error) {
  const { code, data, message } = error ?? {};
  if (data?.ferry) return ['error', { reason: data.ferry.reason, executed: data.ferry.executed }];
  if (/connection closed|not connected/i.test(message)) return ['stream-ended', {}];
  if (/request timed out/i.test(message)) return ['silent', {}];
  if (typeof code === 'number' && code < 0) return ['error', { reason: `upstream ${code}` }];
  return ['post-failed', { detail: `${message}`.slice(0, 120) }];
}

class Slot {
  pending = new Map();
  lastTouch = 0;
  silenced = new Set(); // nonces whose late answer is no surprise

  constructor(place) {
    Object.assign(this, place);
  }

  async connect() {
    this.broken = this.lost = false;
    this.touched = 0;
    const begun = Date.now();
    try {
      this.peer = await open(this.url, randomUUID(), { within: 30_000 });
    } catch (error) {
      const [outcome, more] = classify(error);
      say({
        opened: false,
        slot: this.slot,
        outcome: outcome === 'silent' && this.touched > begun ? 'post-cut' : outcome,
        ...more,
      });
      return false;
    }
    const { client } = this.peer;
    client.onerror = error => this.heard(error);
    say({ opened: true, slot: this.slot });
    return true;
  }

  heard(error) {
    const stray = /unknown message ID.*?([0-9a-f]{8}-[0-9a-f-]{27})/is.exec(error?.message ?? '');
    if (stray && !this.silenced.has(stray[1])) say({ doubled: stray[1] });
    if (error?.constructor?.name === 'SseError' || /SSE error/.test(error?.message)) this.streamEnded();
  }

  streamEnded() {
    if (!this.peer || this.lost) return;
    this.lost = true;
    this.before = this.peer.endpoint();
    // The outside's word that it was cut may come a little after the cut itself.
    const since = Date.now() - 10_000;
    if (!plan.endsExpected)
      setTimeout(
        () => this.lastTouch < since && say({ surprise: 'the stream ended and nobody had cut it', slot: this.slot }),
        2000,
      );
    const ending = [...this.pending.values()];
    // A message on its way may still be refused in words, which counts as told.
    setTimeout(() => ending.forEach(({ end }) => end('stream-ended')), plan.endsExpected ? 3000 : 0);
  }

  // Some of the clients are left to find their way back by themselves, the others are made anew.
  async returned() {
    if (random.next() >= plan.returning) return false;
    for (let waited = 0; waited < 30_000; waited += 100) {
      if (this.peer.endpoint() !== this.before)
        return !(this.lost = false) && (say({ reconnected: true, slot: this.slot }), true);
      await pause(100);
    }
    return false;
  }

  async call(call) {
    const { peer } = this;
    const nonce = randomUUID();
    const abort = new AbortController();
    let timer;
    const entry = { touched: false };
    entry.end = (outcome, more) => {
      if (!this.pending.delete(nonce)) return;
      clearTimeout(timer);
      if (outcome !== 'result' && outcome !== 'error') this.silenced.add(nonce);
      // Where streams are to end, a client is left to find its way back, also when a post failed meanwhile.
      const failed = outcome === 'post-failed' || outcome === 'post-cut';
      if (failed && !plan.endsExpected) this.broken ||= random.next() < 0.3;
      say({ end: nonce, outcome, ...more });
    };
    this.pending.set(nonce, entry);
    timer = setTimeout(() => entry.end(entry.touched ? 'post-cut' : 'silent', { tool: call.tool }), plan.limit);
    say({ call: nonce, slot: this.slot, tool: call.tool, cancel: call.cancel });
    if (call.cancel)
      setTimeout(() => (entry.end('cancelled'), abort.abort('changed its mind')), random.between(50, 1500));
    const options = { timeout: plan.limit * 2, signal: abort.signal, ...(call.progress && { onprogress: () => {} }) };
    try {
      const { text, failed } = await peer.call(call.tool, { key: nonce, ...call.args }, options);
      if (failed) entry.end('tool-error', { detail: text.slice(0, 120) });
      else if (text === expected(call, nonce)) entry.end('result');
      else entry.end('wrong', { detail: text.slice(0, 200) });
    } catch (error) {
      entry.end(...classify(error));
    }
  }

  async leave() {
    while (this.pending.size && !this.broken) await pause(20);
    const { peer } = this;
    this.peer = undefined;
    await Promise.race([pause(3000), peer.close()]).catch(() => {});
    // A peer that is left in the middle of its calls is a client that went away.
    for (const { end } of [...this.pending.values()]) end('stream-ended');
  }

  async run() {
    for (;;) {
      if (resting) {
        if (this.peer) await this.leave();
        this.rests = true;
        if (slots.every(slot => slot.rests) && resting !== 'told') ((resting = 'told'), say({ rested: true }));
        await pause(50);
        continue;
      }
      this.rests = false;
      if (!this.peer && !(await this.connect())) {
        await pause(random.between(200, 1000));
        continue;
      }
      // Where streams are to end, nobody leaves of his own accord: everybody is to find the way back.
      const leaves = !plan.endsExpected && random.next() < 0.004;
      if (this.broken || (this.lost && !(await this.returned())) || leaves) await this.leave();
      else if (this.pending.size < plan.atOnce) void this.call(choose(random, plan.menu));
      await pause(random.between(...plan.rest));
    }
  }

  // The drain: so many calls at once when it is said, and nothing else.
  async burst(count) {
    while (!(await this.connect())) await pause(200);
    await fire;
    for (let n = 0; n < count; n++) void this.call(choose(random, plan.menu));
  }

  // The outside cut or stalled connections of this slot: a stream's end shows by itself here, a post's fails its call.
  cut() {
    this.touched = this.lastTouch = Date.now();
    for (const entry of this.pending.values()) entry.touched = true;
  }
}

const slots = plan.slots.map(place => new Slot(place));
for (const slot of slots) void (plan.burst ? slot.burst(plan.burst) : slot.run());
for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  if (told.cut !== undefined) slots[told.cut].cut(told.what);
  if (told.rest !== undefined) resting = told.rest;
  if (told.fire) startFire();
  if (told.leave) break;
}
process.exit(0);
