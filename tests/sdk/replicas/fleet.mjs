// Several ferries before one upstream, each with a gate between itself and one Redis if it is wanted.
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { until } from '../soak/report.mjs';
import { Gate } from './gate.mjs';
import { Redis } from './redis.mjs';
import { open } from './wire.mjs';

// What a test does not wait for.
const QUICK = ['--drain-delay', '0s', '--drain-timeout', '1s'];
// Where it does not matter how soon the Redis is given up, a busy machine may take its time.
export const PATIENT = ['--store-timeout', '10s'];
export const PREFIX = 'rig';

export function keyFile(work) {
  mkdirSync(work, { recursive: true });
  const path = `${work}/ferry.key`;
  writeFileSync(path, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  return path;
}

// What makes a ferry one of several.
export const replicaFlags = (keys, port, name) => [
  ...['--key-file', keys, '--store', `redis://127.0.0.1:${port}`, '--store-prefix', PREFIX],
  ...(name ? ['--replica-id', name] : []),
];

export const keysOf = name => ({ heartbeat: `{${PREFIX}:r:${name}}:hb`, inbox: `{${PREFIX}:r:${name}}:in` });

export class Fleet {
  // `lane` has the upstream; `names` are the replicas. Without gates nothing of ours can slow them down.
  static async start(lane, work, names, { flags = [], gates = true } = {}) {
    const fleet = new Fleet();
    Object.assign(fleet, { lane, flags, gates, keys: keyFile(work), redis: await Redis.start(work), ferries: [] });
    fleet.ferries = await Promise.all(names.map(name => fleet.startFerry(name)));
    for (const ferry of fleet.ferries) fleet[ferry.id] = ferry;
    return fleet;
  }

  async startFerry(id, gate, port) {
    if (this.gates) gate ??= await Gate.open(this.redis.port);
    const own = replicaFlags(this.keys, (gate ?? this.redis).port, id);
    const ferry = await this.lane.startFerry([...QUICK, ...own, '--admin', '127.0.0.1:0', ...this.flags], port);
    const [, admin] = await ferry.line(/the tap's page: http:\/\/127\.0\.0\.1:(\d+)/);
    const metrics = () => scrape(admin);
    return Object.assign(ferry, { id, gate, metrics, signal: name => ferry.child.kill(name) });
  }

  // Until requests cross both ways, so that what is measured afterwards is not the beginning.
  async warm() {
    for (const owner of this.ferries) {
      const client = await open(owner.port);
      for (const sender of this.ferries) {
        client.port = sender.port;
        const answered = await client.call('echo', { key: 'warm' });
        if (answered.outcome !== 'result') throw new Error(`${sender.id} → ${owner.id}: ${JSON.stringify(answered)}`);
      }
      client.socket.destroy();
    }
    return this;
  }

  async stop() {
    const how = await Promise.all(this.ferries.map(ferry => (ferry.signal('SIGCONT'), ferry.end('SIGTERM', 20))));
    for (const { gate } of this.ferries) gate?.close();
    await this.redis.stop();
    return how;
  }
}

// Metrics by name and labels, as numbers.
async function scrape(port) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`, { headers: { connection: 'close' } })).text();
  const values = new Map();
  for (const [, name, value] of text.matchAll(/^(\w+(?:\{.*?\})?) (\S+)$/gm)) values.set(name, Number(value));
  const get = (name, outcome) => values.get(outcome ? `${name}{outcome="${outcome}"}` : name) ?? 0;
  return {
    handed: outcome => get('mcp_ferry_handed_over_total', outcome),
    taken: outcome => get('mcp_ferry_taken_over_total', outcome),
    posts: () => [...values].filter(([name]) => name.startsWith('mcp_ferry_posts')).map(([, value]) => value),
    values,
  };
}

export async function readiness(ferry) {
  const answer = await fetch(`http://127.0.0.1:${ferry.port}/readyz`, { headers: { connection: 'close' } });
  return { status: answer.status, text: await answer.text() };
}

export const isReady = ferry => until(30, async () => !/degraded/.test((await readiness(ferry)).text));
