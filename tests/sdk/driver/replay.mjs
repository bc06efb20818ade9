// Records with `--tap-file`, replays with `mcp-ferry replay`: see ../replay.sh. The last line is `N passed, N failed`.
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { opener } from '../clients/ts-peers.mjs';
import { attempt, close } from '../soak/report.mjs';
import { Program } from './processes.mjs';

const here = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const ferryBinary = process.env.MCP_FERRY_BIN ?? resolve(here, '../../target/release/mcp-ferry');
const SECRET = 'c4n4ry-password';

// A reconnecting EventSource reports what it does through rejections nobody awaits.
process.on('unhandledRejection', error => console.error('unhandled:', error));

async function server(...command) {
  const program = new Program(command.join(' '), ['node', ...command], { cwd: here });
  const [, port] = await program.line(/^port (\d+)$/);
  return Object.assign(program, { url: `http://127.0.0.1:${port}/mcp` });
}

// What a client does: reading, calls, and calls in which the server asks back.
async function work(peer, said) {
  await peer.tools();
  await peer.prompts();
  await peer.resources();
  await peer.read('mem://counter');
  assert.equal(await peer.prompt('greet', { name: 'Ada' }), 'Hello, Ada!');
  await peer.complete('greet', 'name', 'A');
  assert.equal((await peer.call('echo', { text: said })).text, said);
  assert.equal((await peer.call('add', { a: 2, b: 3 })).text, '5');
  assert.equal((await peer.call('sample', { text: said })).text, `sampled ${said}`);
  assert.equal((await peer.call('elicit', { text: said })).text, `answer to ${said}`);
  await peer.call('echo', { text: said, password: SECRET }).catch(() => {});
}

async function record(upstream, file, client) {
  const [, path] = [client, client.includes('-http') || client.includes('-modern') ? '/mcp' : '/sse'];
  const command = [ferryBinary, '--listen', '127.0.0.1:0', '--upstream', upstream.url, '--tap-file', file];
  const ferry = new Program('ferry', command);
  const [, address] = await ferry.line(/listening on (http:\/\/[0-9.:]+)/);
  const open = await opener(client);
  const peer = await open(new URL(path, address), 'a-root');
  await work(peer, `said by ${client}`);
  await peer.close();
  assert.equal(await ferry.end(), 0, ferry.tail());
}

async function replay(file, upstream, ...flags) {
  const told = new Program('replay', [ferryBinary, 'replay', file, '--upstream', upstream.url, '--json', ...flags]);
  const code = await told.exit;
  const [text] = told.lines.filter(line => line.startsWith('{'));
  assert.ok(text, `exit code ${code}: ${told.tail()}`);
  return { code, ...JSON.parse(text) };
}

const differences = report =>
  report.differ.flatMap(({ method, name, differences }) => differences.map(({ path }) => `${method} ${name ?? ''} ${path}`));

const folder = await mkdtemp(join(tmpdir(), 'mcp-ferry-replay-'));
const old = await server('servers/ts.mjs', 'stateful');
const changed = await server('servers/ts.mjs', 'stateful', 'changed');
const modern = await server('servers/modern.mjs', 'reject');
const file = name => join(folder, `${name}.jsonl`);

const tests = {
  'a legacy client is recorded, with its secrets taken out, for its owner only': async () => {
    await record(old, file('legacy'), 'ts-1.32.2');
    const text = await readFile(file('legacy'), 'utf8');
    assert.ok(!text.includes(SECRET), 'the secret is in the file');
    assert.equal((await stat(file('legacy'))).mode & 0o777, 0o600);
    for (const line of text.trimEnd().split('\n')) assert.equal(JSON.parse(line).v, 1);
  },
  'the same server agrees, and tools are called only on demand': async () => {
    const report = await replay(file('legacy'), old);
    assert.deepEqual([report.code, report.agrees, differences(report)], [0, true, []]);
    assert.ok(report.played >= 7, `only ${report.played} played`);
    assert.ok(report.skipped.every(({ method }) => method === 'tools/call'), JSON.stringify(report.skipped));
  },
  'every call agrees, with the recorded answers to what the server asks; one with a secret is named': async () => {
    const report = await replay(file('legacy'), old, '--all');
    assert.deepEqual([report.code, differences(report)], [0, []]);
    assert.deepEqual(report.skipped.map(({ why }) => why), ['has a redacted secret in its parameters']);
  },
  'a changed server is told by what has changed': async () => {
    const report = await replay(file('legacy'), changed, '--all');
    assert.equal(report.code, 1);
    assert.deepEqual(differences(report).sort(), [
      'tools/call add /result/content/0/text',
      'tools/list  /result/tools/echo/description',
      'tools/list  /result/tools/ping',
    ]);
    assert.deepEqual(report.notes.flatMap(({ differences }) => differences.map(({ path }) => path)), [
      '/result/serverInfo/version',
    ]);
  },
  'what passed through is recorded and replayed too': async () => {
    await record(old, file('pass'), 'ts-1.32.2-http');
    const report = await replay(file('pass'), old, '--all');
    assert.deepEqual([report.code, differences(report)], [0, []]);
    assert.ok(report.played >= 10, `only ${report.played} played`);
  },
  'a client of 2026-07-28 is replayed against its server': async () => {
    await record(modern, file('modern'), 'ts-2.4.0-modern');
    const report = await replay(file('modern'), modern, '--all');
    assert.deepEqual([report.code, differences(report)], [0, []]);
    assert.ok(report.played >= 8, `only ${report.played} played`);
  },
};

for (const [name, run] of Object.entries(tests)) await attempt(name, run);
for (const program of [old, changed, modern]) await program.end();
await rm(folder, { recursive: true });
close();
