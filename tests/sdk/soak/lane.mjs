// One upstream with its log, a relay before it, and a ferry: what the soak harms and the drain stops.
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program, freePort } from '../driver/processes.mjs';
import { Relay } from './chaos.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const binary = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));

export class Lane {
  restarts = 0;

  constructor(mode, log) {
    Object.assign(this, { mode, log });
  }

  async start(flags = [], ferries = 1) {
    this.port = await freePort();
    await this.startServer();
    this.relay = await Relay.open(this.port);
    this.ferries = await Promise.all(Array.from({ length: ferries }, () => this.startFerry(flags)));
    [this.ferry] = this.ferries;
    return this;
  }

  async startServer() {
    const command = ['node', 'soak/server.mjs', this.mode, this.log];
    this.server = new Program(`server ${this.mode}`, command, { cwd: root, env: { PORT: String(this.port) } });
    await this.server.line(/^port (\d+)$/);
  }

  async startFerry(flags, port = 0) {
    const command = [binary, '--upstream', `http://127.0.0.1:${this.relay.port}/mcp`, '--listen', `127.0.0.1:${port}`, ...flags];
    const ferry = new Program(`ferry before ${this.mode}`, command);
    const [, told] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
    ferry.port = Number(told);
    return ferry;
  }

  async restartServer() {
    this.restarts++;
    await this.server.end('SIGKILL');
    await this.relay.refuse(() => this.startServer());
  }

  async sessions() {
    const answer = await fetch(`http://127.0.0.1:${this.port}/control`);
    return (await answer.json()).sessions;
  }

  // Resident memory in KiB and open descriptors of the (first) ferry.
  usage() {
    const of = this.ferry.child.pid;
    return {
      rss: Number(readFileSync(`/proc/${of}/status`, 'utf8').match(/^VmRSS:\s+(\d+)/m)[1]),
      descriptors: readdirSync(`/proc/${of}/fd`).length,
    };
  }

  // What is still open towards the ferry and its upstream, for a failed check.
  leftOpen(workers) {
    const pairs = [this.relay, ...workers.flatMap(worker => worker.relays)].flatMap(relay => relay.list('all'));
    return pairs.map(({ request }) => request.slice(0, 20)).join(', ') || 'nothing';
  }

  async stop() {
    const how = await Promise.all(this.ferries.map(ferry => ferry.end('SIGTERM', 60)));
    await this.server.end('SIGKILL');
    this.relay.close();
    return how;
  }
}
