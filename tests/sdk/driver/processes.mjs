// Starting and ending the programs of the rig. Every one is a process of its own, ended by its own id;
// every wait has a limit and fails with what the program last said.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';

const LINES_KEPT = 200;

// However the rig ends, nothing it started stays behind.
const alive = new Set();
process.on('exit', () => alive.forEach(child => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(130));

// Everything here is on the loopback; a proxy that the machine has set must not see it.
const ENV = { ...process.env, NO_PROXY: '127.0.0.1,localhost', no_proxy: '127.0.0.1,localhost' };

// A free port below the range from which outgoing connections get theirs: a server that is killed and
// started again must not find its port taken by a stranger's connection in between. None is given twice.
const given = new Set();
export async function freePort() {
  for (let tries = 0; tries < 100; tries++) {
    const port = 15_000 + Math.floor(Math.random() * 17_000);
    if (given.has(port)) continue;
    given.add(port);
    const server = createServer();
    const free = await new Promise(resolve => {
      server.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    await new Promise(resolve => server.close(resolve));
    if (free) return port;
  }
  throw new Error('no free port found');
}

export class Program {
  constructor(name, command, { env = {}, cwd, stdin = 'ignore', onLine = () => {} } = {}) {
    this.name = name;
    this.lines = [];
    this.watchers = new Set();
    this.child = spawn(command[0], command.slice(1), {
      cwd,
      env: { ...ENV, ...env },
      stdio: [stdin, 'pipe', 'pipe'],
    });
    this.exit = new Promise(resolve => {
      this.child.once('error', error => (this.take(`cannot start ${command[0]}: ${error.message}`), resolve('error')));
      this.child.once('close', (code, signal) => resolve(code ?? signal));
    });
    alive.add(this.child);
    void this.exit.then(how => (alive.delete(this.child), (this.ended = how)));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      let rest = '';
      stream.setEncoding('utf8').on('data', chunk => {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop();
        for (const line of lines) {
          this.take(line);
          onLine(line, stream === this.child.stdout);
        }
      });
    }
  }

  take(line) {
    this.lines.push(line);
    if (this.lines.length > LINES_KEPT) this.lines.shift();
    for (const watcher of this.watchers) watcher(line);
  }

  tail = (count = 15) => this.lines.slice(-count).join('\n');

  // The first line, past or to come, that matches.
  async line(pattern, seconds = 60) {
    const known = this.lines.map(line => line.match(pattern)).find(Boolean);
    if (known) return known;
    let watcher, timer;
    const found = new Promise(resolve => {
      watcher = line => {
        const match = line.match(pattern);
        if (match) resolve(match);
      };
      this.watchers.add(watcher);
    });
    const late = new Promise(resolve => (timer = setTimeout(resolve, seconds * 1000, `${seconds} s passed`)));
    const ended = this.exit.then(how => `it ended with ${how}`);
    const outcome = await Promise.race([found, late, ended]);
    this.watchers.delete(watcher);
    clearTimeout(timer);
    if (typeof outcome !== 'string') return outcome;
    throw new Error(`${this.name}: no line matches ${pattern}, ${outcome}; it said:\n${this.tail()}`);
  }

  // Sends the signal, then insists; resolves with how the process ended.
  async end(signal = 'SIGTERM', seconds = 10) {
    if (this.ended !== undefined) return this.ended;
    this.child.kill(signal);
    const insist = setTimeout(() => this.child.kill('SIGKILL'), seconds * 1000);
    const how = await this.exit;
    clearTimeout(insist);
    return how;
  }
}
