// What every server of this rig written in JavaScript shares: the state the scenarios ask about, the
// side channel that tells it (GET /control on the server's own port, never through the ferry), and the
// line on stdout that says on which port the server listens.

// The 1 MB reply. The pattern depends on the position, so a lost or repeated chunk shows. It stays under
// 1,048,576 bytes with its envelope: the event size at which Python `mcp` 2.x ends the session.
export const big = () => Array.from({ length: 100_000 }, (_, i) => String(i).padStart(9, '0') + ';').join('');

export const names = ['Ada', 'Alan', 'Grace'];

export class World {
  constructor() {
    this.counter = 0;
    this.level = null; // the last logging/setLevel
    this.running = new Set(); // keys of `slow` calls that have begun
    this.cancelled = new Set(); // keys of `slow` calls the server was told to give up
    this.sessions = new Map();
    this.gates = new Map();
  }

  // Holds a call until another call opens the gate of that key: proof, without a clock, that the client
  // had everything sent before while the call still ran.
  gate(key) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`nobody released ${key}`)), 30_000);
      this.gates.set(key, () => {
        clearTimeout(timer);
        this.gates.delete(key);
        resolve();
      });
    });
  }

  release(key) {
    const open = this.gates.get(key);
    if (!open) throw new Error(`no call waits for ${key}`);
    open();
    return 'released';
  }

  // Ends early only when the server learns of a cancel; the time limit makes a lost cancel visible.
  slow(key, signal) {
    this.running.add(key);
    return new Promise(resolve => {
      const timer = setTimeout(() => resolve('not cancelled'), 80_000);
      signal?.addEventListener('abort', () => {
        clearTimeout(timer);
        this.cancelled.add(key);
        resolve('cancelled');
      });
    });
  }

  report() {
    return {
      level: this.level,
      running: [...this.running],
      cancelled: [...this.cancelled],
      sessions: [...this.sessions.keys()],
    };
  }

  // Answers the side channel; false means the request is not for it. `more` is what only this server knows.
  control(req, res, more = {}) {
    if (new URL(req.url, 'http://localhost').pathname !== '/control') return false;
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ...this.report(), ...more }));
    return true;
  }
}

export function listen(server) {
  // As many connections at once as a soak or a drain makes, on a machine that is slow to accept them.
  const backlog = 4096;
  server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', backlog, () => console.log(`port ${server.address().port}`));
}
