// Several upstreams of the same kind, each with its own log of what it executed: real TypeScript servers with sessions.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program, freePort } from '../driver/processes.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

export class Servers {
  static async start(work, name, count) {
    const servers = new Servers();
    servers.logs = Array.from({ length: count }, (_, n) => `${work}/${name}-${n}.log`);
    servers.programs = await Promise.all(
      servers.logs.map(async log => {
        const program = new Program(`server ${name}`, ['node', 'soak/server.mjs', 'sessions', log], {
          cwd: root,
          env: { PORT: `${await freePort()}` },
        });
        const [, port] = await program.line(/^port (\d+)$/);
        return Object.assign(program, { port: Number(port) });
      }),
    );
    servers.ports = servers.programs.map(({ port }) => port);
    return servers;
  }

  // Of each; undefined of one that is not there.
  sessions = () =>
    Promise.all(
      this.ports.map(port =>
        fetch(`http://127.0.0.1:${port}/control`).then(
          async answer => (await answer.json()).sessions,
          () => undefined,
        ),
      ),
    );

  kill = n => this.programs[n].end('SIGKILL');

  executedTwice() {
    const all = this.logs.flatMap(log => readFileSync(log, 'utf8').split('\n').filter(Boolean));
    return all.length - new Set(all).size;
  }

  stop = () => Promise.all(this.programs.map(program => program.end('SIGKILL')));
}
