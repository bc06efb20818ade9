// A TCP relay that does to connections what networks do: it delays, stalls, cuts after so many bytes, ends and resets
// them. It knows of HTTP only the first line of each request, to tell streams from posts and to say what a cut hit.
import { connect, createServer } from 'node:net';
import { pause } from './random.mjs';

// Connections that may wait to be accepted. With Node's 511 a busy machine drops some of seven hundred that come at once,
// and each of those tries again after a second, three, seven, fifteen.
const BACKLOG = 4096;

// A connection through the relay: `near` is who called, `far` is who was called.
class Pair {
  budget = Infinity; // bytes towards `near` until the connection is reset
  stalled = undefined;
  request = ''; // the last request line seen

  constructor(relay, near, far) {
    Object.assign(this, { relay, near, far });
    this.pump(near, far, chunk => this.notice(chunk));
    this.pump(far, near, chunk => this.spend(chunk));
    for (const socket of [near, far]) {
      socket.setNoDelay(true);
      socket.on('error', () => this.reset());
      socket.on('close', () => this.finish());
    }
  }

  pump(from, to, pass) {
    let queue = Promise.resolve();
    const forward = async chunk => {
      await this.stalled;
      if (this.relay.latency) await pause(this.relay.latency());
      const left = pass(chunk);
      if (!to.destroyed && left.length && !to.write(left))
        await new Promise(resolve => to.once('drain', resolve).once('close', resolve));
      if (left.length < chunk.length) this.reset();
      else from.resume();
    };
    from.on('data', chunk => (from.pause(), (queue = forward(chunk))));
    from.on('end', () => queue.then(() => this.stalled).then(() => to.end()));
  }

  notice(chunk) {
    const line = chunk.toString('latin1').match(/^(?:GET|POST|DELETE) \S+/m);
    if (line) this.request = line[0] + (chunk.includes('"method":"initialize"') ? ' initialize' : '');
    return chunk;
  }

  spend(chunk) {
    const passed = chunk.subarray(0, Math.max(0, this.budget));
    this.budget -= chunk.length;
    return passed;
  }

  get isStream() {
    return this.request.startsWith('GET ');
  }

  stall(ms) {
    this.stalled = pause(ms).then(() => (this.stalled = undefined));
  }

  reset() {
    this.relay.pairs.delete(this);
    for (const socket of [this.near, this.far]) if (!socket.destroyed) socket.resetAndDestroy();
  }

  finish() {
    if (this.finishing) return;
    this.finishing = true;
    this.near.end();
    this.far.end();
    // Whoever does not end its side too is not waited for.
    setTimeout(() => this.reset(), 1000).unref();
  }
}

export class Relay {
  pairs = new Set();
  latency = undefined; // () => ms, for every chunk
  budgets = []; // for the next connections

  // `target` is a port, or a function that chooses one (or undefined: the connection is refused) per connection.
  static async open(target, port = 0) {
    const relay = new Relay();
    relay.server = createServer({ allowHalfOpen: true }, near => {
      near.on('error', () => {});
      const chosen = typeof target === 'function' ? target() : target;
      if (chosen === undefined) return near.resetAndDestroy();
      const far = connect({ port: chosen, host: '127.0.0.1', allowHalfOpen: true });
      const pair = new Pair(relay, near, far);
      pair.chosen = chosen;
      pair.budget = relay.budgets.shift() ?? Infinity;
      relay.pairs.add(pair);
    });
    await new Promise((resolve, reject) => relay.server.once('error', reject).listen(port, '127.0.0.1', BACKLOG, resolve));
    relay.port = relay.server.address().port;
    return relay;
  }

  // Nobody listens for a while, as when a server is down; what is open breaks.
  async refuse(during) {
    const closed = new Promise(resolve => this.server.close(resolve));
    for (const pair of this.pairs) pair.reset();
    await closed;
    await during();
    await new Promise((resolve, reject) => this.server.once('error', reject).listen(this.port, '127.0.0.1', BACKLOG, resolve));
  }

  list = kind => [...this.pairs].filter(pair => kind === 'all' || pair.isStream === (kind === 'stream'));

  close() {
    this.server.close();
    for (const pair of this.pairs) pair.reset();
  }
}
