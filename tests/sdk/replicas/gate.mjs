// What stands between one ferry and its Redis: a relay that knows commands, so that one can be held before the Redis has it,
// or what was read from an inbox before the ferry has it. It can also be slow, and lead to another Redis.
import { connect, createServer } from 'node:net';
import { Splitter } from './resp.mjs';
import { pause } from '../soak/random.mjs';

export const REQUEST = 1;
export const ANSWER = 2;
export const WITHDRAWAL = 3;

// What a script call puts into an inbox: the script that does it has two keys, heartbeat and inbox, and four arguments.
export function put(words) {
  if (!Array.isArray(words) || words.length !== 9 || !/^eval(sha)?$/i.test(words[0])) return undefined;
  return { inbox: `${words[4]}`, entry: words[5], kind: words[5][0] };
}

export const puts = kind => words => put(words)?.kind === kind;
// What an inbox was read to hold: entries have one field, `e`.
export const found = chunk => chunk.includes('$1\r\ne\r\n');

// One direction of a connection: what it carries waits its turn.
class Way {
  queue = Promise.resolve();

  constructor(to, gate) {
    Object.assign(this, { to, gate });
  }

  // `held` is a promise that has to come true first.
  pass(bytes, held) {
    const due = Date.now() + this.gate.latency;
    this.queue = this.queue.then(async () => {
      await held;
      if (due > Date.now()) await pause(due - Date.now());
      if (!this.to.destroyed) this.to.write(bytes);
    });
  }
}

export class Gate {
  latency = 0; // ms, each way
  pairs = new Set();
  holds = { commands: [], answers: [] };

  static async open(target) {
    const gate = new Gate();
    gate.target = target;
    gate.server = createServer(near => gate.connected(near));
    await new Promise((resolve, reject) => gate.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    gate.port = gate.server.address().port;
    return gate;
  }

  connected(near) {
    const far = connect(this.target, '127.0.0.1');
    const pair = [near, far];
    this.pairs.add(pair);
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      // What is held on a connection that ends is lost with it.
      socket.on('close', () => (pair.forEach(end => end.destroy()), this.pairs.delete(pair)));
    }
    const out = new Way(far, this);
    const back = new Way(near, this);
    const commands = new Splitter((words, raw) => out.pass(raw, this.held('commands', words)));
    near.on('data', chunk => commands.feed(chunk));
    far.on('data', chunk => back.pass(chunk, this.held('answers', chunk)));
  }

  held(direction, what) {
    const at = this.holds[direction].findIndex(({ match }) => match(what));
    if (at < 0) return undefined;
    const [hold] = this.holds[direction].splice(at, 1);
    hold.catch(what);
    return hold.released;
  }

  // Holds the next command (or the next piece of an answer) that matches, and all behind it on that connection.
  hold(direction, match) {
    const hold = { match };
    hold.caught = new Promise(resolve => (hold.catch = resolve));
    hold.released = new Promise(resolve => (hold.release = resolve));
    this.holds[direction].push(hold);
    return hold;
  }

  // From now on to this port; what is open breaks.
  lead(target) {
    this.target = target;
    this.cut();
  }

  cut() {
    for (const pair of this.pairs) pair.forEach(socket => socket.destroy());
  }

  close() {
    this.server.close();
    this.cut();
  }
}
