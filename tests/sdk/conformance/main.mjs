// Runs the official conformance suite in server mode twice, against a server and against the ferry's /mcp
// before the same server, and compares scenario by scenario, check by check. A scenario passes here when
// both runs say the same; what the suite thinks of the server itself is shown but not judged. Then the suite's
// client mode, which is `clients.mjs`.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Program, freePort } from '../driver/processes.mjs';
import { clientScenarios } from './clients.mjs';
import { sum, tell } from './tally.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const ferryBin = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));
const SUITE_SECONDS = 240;

const subjects = [
  {
    name: '2025-11-25, our server on SDK 1.32',
    suite: ['conformance-2025', '--suite', 'all'],
    command: ['node', 'conformance/server-2025.mjs'],
    least: 28, // scenarios our server must pass directly, so that the comparison is about something
  },
  {
    name: '2025-11-25, server-everything',
    suite: ['conformance-2025', '--suite', 'all'],
    command: ['node', 'node_modules/@modelcontextprotocol/server-everything/dist/index.js', 'streamableHttp'],
    least: 10,
    // Scenarios that must fail directly and pass through the ferry, with the reason.
    mended: { 'dns-rebinding-protection': 'this server takes any Host; the ferry before it refuses foreign ones' },
  },
  {
    name: '2026-07-28, our server on @modelcontextprotocol/server 2.4',
    suite: ['conformance-2026', '--requirements', '2026-07-28'],
    command: ['node', 'conformance/server-2026.mjs'],
    least: 30,
  },
];

// Runs the suite; returns scenario -> its checks, each `id status`, sorted.
async function results(suite, url) {
  const [alias, ...args] = suite;
  const into = mkdtempSync(join(tmpdir(), 'conformance-'));
  const script = `node_modules/${alias}/dist/index.js`;
  const command = ['node', '--import', './conformance/node20.mjs', script, 'server', '--url', url, '-o', into, ...args];
  try {
    const program = new Program('conformance', command, { cwd: root });
    const late = setTimeout(() => program.child.kill('SIGKILL'), SUITE_SECONDS * 1000);
    await program.exit; // 1 when any check failed, which is not what is asked here
    clearTimeout(late);
    const found = new Map();
    for (const folder of readdirSync(into)) {
      const [, scenario] = folder.match(/^server-(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/) ?? [];
      if (!scenario) throw new Error(`unexpected result ${folder}`);
      const checks = JSON.parse(readFileSync(join(into, folder, 'checks.json'), 'utf8'));
      found.set(scenario, checks.map(({ id, status, errorMessage }) => ({ line: `${id} ${status}`, status, errorMessage })));
    }
    if (!found.size) throw new Error(`the suite left no results; it said:\n${program.tail()}`);
    return found;
  } finally {
    rmSync(into, { recursive: true });
  }
}

const lines = checks => (checks ?? []).map(check => check.line).sort();
const verdict = checks => {
  if (!checks?.length) return 'absent';
  const failed = checks.filter(({ status }) => status === 'FAILURE').length;
  return failed ? `${failed} of ${checks.length} failed` : 'passes';
};

async function compare({ name, suite, command, least, mended = {} }) {
  console.log(`\n${name}`);
  const server = new Program('server', command, { cwd: root, env: { PORT: String(await freePort()) } });
  let ferry;
  try {
    const [, port] = await server.line(/(?:^|listening on )port (\d+)$/);
    const upstream = `http://127.0.0.1:${port}/mcp`;
    ferry = new Program('ferry', [ferryBin, '--upstream', upstream, '--listen', '127.0.0.1:0']);
    const [, ferryPort] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
    const direct = await results(suite, upstream);
    const through = await results(suite, `http://127.0.0.1:${ferryPort}/mcp`);
    for (const scenario of [...new Set([...direct.keys(), ...through.keys()])].sort()) {
      const [one, other] = [direct.get(scenario), through.get(scenario)];
      const reason = mended[scenario];
      const equal = lines(one).length > 0 && lines(one).join() === lines(other).join();
      const same = reason ? verdict(one).endsWith('failed') && verdict(other) === 'passes' : equal;
      const note = reason ? ` (${reason})` : '';
      tell(same, `${scenario.padEnd(50)} direct: ${verdict(one).padEnd(18)} ferry: ${verdict(other)}${note}`);
      if (same && !process.env.RIG_VERBOSE) continue;
      for (const check of [...(one ?? []).map(c => ({ from: 'direct', ...c })), ...(other ?? []).map(c => ({ from: 'ferry', ...c }))]) {
        if (!same || check.status === 'FAILURE') console.log(`       ${check.from}: ${check.line} ${check.errorMessage ?? ''}`);
      }
    }
    const good = [...direct.values()].filter(checks => verdict(checks) === 'passes').length;
    tell(good >= least, `${good} of ${direct.size} scenarios pass without the ferry, at least ${least} expected`);
  } catch (error) {
    tell(false, `${error.stack}`);
  }
  await ferry?.end('SIGINT'); // without the delay that SIGTERM has
  await server.end('SIGKILL');
}

for (const subject of subjects) await compare(subject);
await clientScenarios();
process.exitCode = sum() ? 0 : 1;
