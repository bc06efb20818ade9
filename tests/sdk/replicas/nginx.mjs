// nginx without stickiness in front of several ferries: the recipe itself, its addresses exchanged for the rig's.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program, freePort } from '../driver/processes.mjs';
import { until } from '../soak/report.mjs';

const recipe = fileURLToPath(new URL('../../../fixtures/recipes/replicas/nginx.conf', import.meta.url));
// Debian keeps it where not everybody looks.
const binary = ['/usr/sbin/nginx', '/usr/bin/nginx'].find(existsSync) ?? 'nginx';

export function configure(ports, listen) {
  const text = readFileSync(recipe, 'utf8');
  const servers = /^( *)server ferry-1:8080;\n *server ferry-2:8080;\n/m;
  if (!servers.test(text) || !text.includes('listen 8080;')) throw new Error(`${recipe} has other addresses`);
  return text
    .replace(servers, (_, indent) => ports.map(port => `${indent}server 127.0.0.1:${port};\n`).join(''))
    .replace('listen 8080;', `listen 127.0.0.1:${listen};`);
}

export class Nginx {
  static async start(work, ports) {
    const nginx = new Nginx();
    nginx.port = await freePort();
    const dir = `${work}/nginx-${nginx.port}`;
    mkdirSync(dir, { recursive: true });
    writeFileSync(`${dir}/recipe.conf`, configure(ports, nginx.port));
    // One worker, so that the turns are one after another; the recipe is a file of conf.d.
    writeFileSync(
      `${dir}/nginx.conf`,
      `daemon off; master_process off; pid ${dir}/pid; error_log stderr; events { worker_connections 4096; }\n` +
        `http { access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy;\n` +
        `fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;\n` +
        `include ${dir}/recipe.conf; }\n`,
    );
    nginx.program = new Program('nginx', [binary, '-p', dir, '-e', 'stderr', '-c', `${dir}/nginx.conf`]);
    const answers = () =>
      fetch(`http://127.0.0.1:${nginx.port}/readyz`, { headers: { connection: 'close' } }).then(
        ({ ok }) => ok,
        () => false,
      );
    if (!(await until(20, answers))) throw new Error(`nginx does not answer: ${nginx.program.tail()}`);
    return nginx;
  }

  stop = () => this.program.end('SIGTERM', 5);
}
