// A real redis-server of the rig's own: on a free port, without persistence, ended by its own id.
import { mkdirSync } from 'node:fs';
import { Program, freePort } from '../driver/processes.mjs';
import { until } from '../soak/report.mjs';
import { Resp } from './resp.mjs';

export class Redis {
  // `replicaOf` is another server's port.
  static async start(work, { replicaOf } = {}) {
    const redis = new Redis();
    redis.port = await freePort();
    redis.dir = `${work}/redis-${redis.port}`;
    mkdirSync(redis.dir, { recursive: true });
    redis.more = replicaOf ? ['--replicaof', '127.0.0.1', `${replicaOf}`] : [];
    await redis.begin();
    return redis;
  }

  async begin() {
    const command = ['redis-server', '--port', `${this.port}`, '--bind', '127.0.0.1', '--dir', this.dir];
    this.program = new Program(`redis ${this.port}`, [...command, '--save', '', '--appendonly', 'no', ...this.more]);
    await this.program.line(/Ready to accept connections/);
    this.admin = await Resp.open(this.port);
  }

  ask = (...words) => this.admin.ask(...words);
  signal = name => this.program.child.kill(name);

  async kill() {
    this.admin.close();
    await this.program.end('SIGKILL');
  }

  // Killed if it still runs, and back on the same port with nothing in it.
  async restart() {
    await this.kill();
    await this.begin();
  }

  async info(section) {
    const text = `${await this.ask('INFO', section)}`;
    return Object.fromEntries([...text.matchAll(/^([\w|]+):(.*?)\r?$/gm)].map(([, name, value]) => [name, value]));
  }

  // Everything that is asked of it from now on, as lines; the connection closes with `stop`.
  async monitor() {
    const lines = [];
    const monitor = await Resp.open(this.port);
    monitor.onLine = line => lines.push(line);
    await monitor.ask('MONITOR');
    return { lines, stop: () => monitor.close() };
  }

  isSynced = () => until(30, async () => (await this.info('replication')).master_link_status === 'up');

  async stop() {
    this.admin?.close();
    await this.program.end('SIGKILL');
  }
}
