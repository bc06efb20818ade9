// Client processes: each runs several real clients of one SDK, every one behind a relay of its own, and tells what it
// calls. What they tell goes into the ledger.
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { Relay } from './chaos.mjs';
import { menuFor } from './menu.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const sdk = fileURLToPath(new URL('../../../target/sdk', import.meta.url));

const command = client =>
  client.startsWith('ts-')
    ? ['node', 'soak/worker.mjs']
    : [`${sdk}/py-${client.slice(3).replace('-Client', '')}/bin/python`, 'soak/worker.py'];

export class Worker {
  // `port` is where the relays go, or a function that is told a relay and returns how it chooses (see `Relay.open`).
  static async start(client, port, { slots, ledger, random, plan = {}, asksBack = true }) {
    const relays = [];
    for (let n = 0; n < slots; n++) {
      let relay;
      const choose = typeof port === 'function' ? port(() => relay) : port;
      relays.push((relay = await Relay.open(choose)));
    }
    const worker = new Worker();
    Object.assign(worker, { client, relays, ledger, random, plan, asksBack });
    worker.spawn();
    return worker;
  }

  spawn() {
    this.rested = false;
    const plan = JSON.stringify({
      client: this.client,
      seed: this.random.between(0, 2 ** 31),
      slots: this.relays.map(({ port }, slot) => ({ slot, url: `http://127.0.0.1:${port}/sse` })),
      menu: menuFor(this.client, this.asksBack),
      limit: 100_000,
      atOnce: 4,
      rest: [20, 250],
      returning: 0.5, // how many of those whose stream ended are left to reconnect
      endsExpected: false, // whether streams end though nobody cut them
      ...this.plan,
    });
    const home = {};
    this.program = new Program(`client ${this.client}`, [...command(this.client), plan], {
      cwd: root,
      stdin: 'pipe',
      onLine: (line, isStdout) => {
        if (isStdout && line.startsWith('{')) this.hear(JSON.parse(line), home);
      },
    });
    this.home = home;
    void this.program.exit.then(how => {
      if (!home.expected) this.ledger.fault(`client ${this.client} ended by itself with ${how}: ${this.program.tail(4)}`);
    });
    // Its pipe breaks when it is killed.
    this.program.child.stdin.on('error', () => {});
  }

  hear(line, home) {
    if (line.rested) this.rested = true;
    else this.ledger.hear(line, this, home);
  }

  tell(line) {
    if (line.rest !== undefined) this.rested = false;
    if (this.program.ended === undefined) this.program.child.stdin.write(`${JSON.stringify(line)}\n`);
  }

  // Breaks off, or stalls for `ms`, what this slot has open of that kind.
  harm(slot, what, how) {
    const pairs = this.relays[slot].list(what);
    if (!pairs.length) return false;
    this.tell({ cut: slot, what });
    for (const pair of pairs) how(pair);
    return true;
  }

  async kill() {
    this.home.expected = true;
    await this.program.end('SIGKILL');
    this.ledger.killed(this.home);
  }

  async leave() {
    this.home.expected = true;
    this.tell({ leave: true });
    await this.program.end('SIGTERM', 5);
    for (const relay of this.relays) relay.close();
  }
}
