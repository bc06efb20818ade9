// The measuring of replicas.sh: `replicas.mjs RIG [--smoke]`, RIG being where the rig's programs are. One load generator
// before one nginx that sends posts to the owner, to another replica, or to each in turn; several rounds, and of each
// figure the median, because machines are noisy.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Program, freePort } from '../tests/sdk/driver/processes.mjs';
import { keyFile, replicaFlags } from '../tests/sdk/replicas/fleet.mjs';
import { Redis } from '../tests/sdk/replicas/redis.mjs';
import { until } from '../tests/sdk/soak/report.mjs';

const [rig, mode] = process.argv.slice(2);
const smoke = mode === '--smoke';
const ROUNDS = smoke ? 1 : 5;
const [WARM_MS, WINDOW_MS] = smoke ? [100, 1000] : [500, 2000];
const work = fileURLToPath(new URL('../target/benches/replicas', import.meta.url));
const binary = process.env.MCP_FERRY_BIN;

async function startFerry(upstream, more = []) {
  const command = [binary, '--upstream', `http://127.0.0.1:${upstream}/mcp`, '--listen', '127.0.0.1:0'];
  const ferry = new Program('ferry', [...command, '--drain-delay', '0s', ...more]);
  const [, port] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
  return Object.assign(ferry, { port });
}

// One listener per way to go: `alone` before the single ferry, `local` and `remote` before a replica whose clients' posts
// it takes itself, or another, and `spread` before all in turn.
async function startNginx(alone, replicas) {
  const ports = {};
  for (const way of ['alone', 'local', 'remote', 'spread']) ports[way] = await freePort();
  const group = (name, ...ferries) =>
    `upstream ${name} { ${ferries.map(({ port }) => `server 127.0.0.1:${port};`).join(' ')} keepalive 256; }\n`;
  const listener = (way, to) => `server { listen 127.0.0.1:${ports[way]}; location / { proxy_pass http://${to}; } }\n`;
  const dir = `${work}/nginx`;
  mkdirSync(dir, { recursive: true });
  writeFileSync(
    `${dir}/nginx.conf`,
    `daemon off; master_process off; pid ${dir}/pid; error_log stderr; events { worker_connections 8192; }\nhttp {\n` +
      ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${dir}/${name};\n`).join('') +
      'access_log off; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;\n' +
      'proxy_buffering off; proxy_request_buffering off; proxy_read_timeout 1h; keepalive_requests 1000000000;\n' +
      'map $request_method $other { GET first; default second; }\n' +
      group('alone', alone) +
      group('first', replicas[0]) +
      group('second', replicas[1]) +
      group('all', ...replicas) +
      listener('alone', 'alone') +
      listener('local', 'first') +
      listener('remote', '$other') +
      listener('spread', 'all') +
      '}\n',
  );
  const nginx = new Program('nginx', ['nginx', '-p', dir, '-e', 'stderr', '-c', `${dir}/nginx.conf`]);
  const answers = () =>
    fetch(`http://127.0.0.1:${ports.spread}/readyz`)
      .then(({ ok }) => ok)
      .catch(() => false);
  if (!(await until(10, answers))) throw new Error(`nginx does not answer: ${nginx.tail()}`);
  return Object.assign(nginx, { ports });
}

const median = values => values.sort((one, other) => one - other)[Math.floor(values.length / 2)];

async function main() {
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const stub = new Program('upstream', [`${rig}/upstream`, '--mode', 'stateless-json'], { stdin: 'pipe' });
  const [, upstream] = await stub.line(/(\d+)/);
  const redis = await Redis.start(work);
  const keys = keyFile(work);
  const alone = await startFerry(upstream);
  const replicas = await Promise.all([1, 2, 3].map(() => startFerry(upstream, replicaFlags(keys, redis.port))));
  const nginx = await startNginx(alone, replicas);

  const cpuOfRedis = async () => {
    const { used_cpu_user: user, used_cpu_sys: system } = await redis.info('cpu');
    return (Number(user) + Number(system)) * 1e6;
  };
  const entries = async () => Number(/calls=(\d+)/.exec((await redis.info('commandstats')).cmdstat_xadd)?.[1] ?? 0);

  async function load(way, ferries, connections, inFlight) {
    const before = [await cpuOfRedis(), await entries()];
    const pids = ferries.map(({ child }) => child.pid).join();
    const port = nginx.ports[way];
    const flags = { url: `http://127.0.0.1:${port}/sse`, connections, 'in-flight': inFlight, pids };
    Object.assign(flags, { 'warm-ms': WARM_MS, 'window-ms': WINDOW_MS, stats: `http://127.0.0.1:${upstream}/stats` });
    const words = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, `${value}`]);
    const program = new Program('load', [`${rig}/load`, 'legacy', ...words]);
    const how = await program.exit;
    if (how !== 0) throw new Error(`load, ${way}: ${how}: ${program.tail()}`);
    const put = (await entries()) - before[1];
    const redisCpu = ((await cpuOfRedis()) - before[0]) / (put / 2 || 1);
    return { ...JSON.parse(program.lines.at(-1)), handed: put / 2, redis_us: put ? redisCpu : 0 };
  }

  // What is compared, beside each other in every round.
  const runs = {
    'one at a time, alone': () => load('alone', [alone], 1, 1),
    'one at a time, owner': () => load('local', replicas.slice(0, 2), 1, 1),
    'one at a time, another': () => load('remote', replicas.slice(0, 2), 1, 1),
    '60 at once, alone': () => load('alone', [alone], 30, 2),
    '60 at once, owner': () => load('local', replicas.slice(0, 2), 30, 2),
    '60 at once, another': () => load('remote', replicas.slice(0, 2), 30, 2),
    '60 at once, three in turn': () => load('spread', replicas, 30, 2),
  };
  const found = Object.fromEntries(Object.keys(runs).map(name => [name, []]));
  for (let round = 0; round < ROUNDS; round++)
    for (const [name, run] of Object.entries(runs)) found[name].push(await run());

  const figure = (name, what) => median(found[name].map(each => each[what]));
  const columns = { per_second: 0, p50_us: 0, p99_us: 0, cpu_us: 1, redis_us: 1 };
  console.log(`${cpus().length} cores; ${ROUNDS} rounds of ${WINDOW_MS} ms each, medians; times in µs\n`);
  console.log('| posts | calls a second | p50 | p99 | CPU of the ferries per call | CPU of the Redis per hand-over |');
  console.log('| --- | --- | --- | --- | --- | --- |');
  for (const name of Object.keys(runs))
    console.log(
      `| ${[name, ...Object.entries(columns).map(([what, digits]) => figure(name, what).toFixed(digits))].join(' | ')} |`,
    );
  const ratio = (what, one, other) => `${(figure(one, what) / figure(other, what)).toFixed(2)} ×`;
  const added = (what, one, other) => `${(figure(one, what) - figure(other, what)).toFixed(0)} µs`;
  console.log(`
remote beside local, one at a time: p50 + ${added('p50_us', 'one at a time, another', 'one at a time, owner')}, p99 + ${added('p99_us', 'one at a time, another', 'one at a time, owner')}
remote beside local, 60 at once: CPU ${ratio('cpu_us', '60 at once, another', '60 at once, owner')}
the owner's posts beside a ferry without replicas: CPU ${ratio('cpu_us', '60 at once, owner', '60 at once, alone')}
three in turn beside one alone: calls a second ${ratio('per_second', '60 at once, three in turn', '60 at once, alone')}, CPU per call ${ratio('cpu_us', '60 at once, three in turn', '60 at once, alone')}`);

  // Whatever the machine, these must hold.
  const wrong = [];
  for (const [name, all] of Object.entries(found)) {
    const crosses = /another|turn/.test(name);
    if (all.some(({ handed }) => handed > 0 !== crosses))
      wrong.push(`${name}: hand-overs ${all.map(({ handed }) => handed)}`);
    if (all.some(({ http_per_call: http }) => http > 1.1)) wrong.push(`${name}: more than one call upstream per call`);
  }
  for (const ferry of [alone, ...replicas]) {
    const how = await ferry.end('SIGTERM', 20);
    if (how !== 0) wrong.push(`a ferry ended with ${how}`);
  }
  await nginx.end('SIGTERM', 5);
  await redis.stop();
  await stub.end('SIGTERM');
  for (const line of wrong) console.error(`WRONG ${line}`);
  process.exit(wrong.length ? 1 : 0);
}

await main();
