#!/usr/bin/env node
// Three ferries, a Redis and nginx without stickiness that stand in for one ferry: takes a ferry's arguments and prints a
// ferry's first line. So every rig that takes MCP_FERRY_BIN can be run over replicas; FERRY_OF_REPLICAS is the binary then.
//
//   FERRY_OF_REPLICAS=target/release/mcp-ferry MCP_FERRY_BIN=$PWD/tests/sdk/replicas/as-one.mjs tests/sdk/run.sh
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { PATIENT, keyFile, replicaFlags } from './fleet.mjs';
import { Nginx } from './nginx.mjs';
import { Redis } from './redis.mjs';

const binary =
  process.env.FERRY_OF_REPLICAS ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));
const REPLICAS = 3;

const work = mkdtempSync(`${tmpdir()}/ferry-replicas-`);
const given = process.argv.slice(2);
const listen = given.indexOf('--listen');
if (listen < 0 || given[listen + 1] !== '127.0.0.1:0') throw new Error('only --listen 127.0.0.1:0 is taken');

const redis = await Redis.start(work);
const own = [...replicaFlags(keyFile(work), redis.port), ...PATIENT];
const ferries = await Promise.all(
  Array.from({ length: REPLICAS }, async () => {
    const ferry = new Program('ferry', [binary, ...given, ...own], { onLine: line => console.error(line) });
    const [, port] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
    return Object.assign(ferry, { port });
  }),
);
const nginx = await Nginx.start(
  work,
  ferries.map(({ port }) => port),
);
// What it started would be killed at once otherwise.
process.removeAllListeners('SIGTERM');
process.once('SIGTERM', async () => {
  const how = await Promise.all(ferries.map(ferry => ferry.end('SIGTERM', 30)));
  await nginx.stop();
  await redis.stop();
  rmSync(work, { recursive: true, force: true });
  process.exit(how.find(code => code !== 0) ?? 0);
});
console.log(`listening on http://127.0.0.1:${nginx.port}`);
