// Clients that come back with a Last-Event-ID: see ../carried.sh. Between ferry and server stands a forwarder that notes
// what the server is told of the client. The last line is `N passed, N failed`.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { opener } from '../clients/ts-peers.mjs';
import { attempt, close } from '../soak/report.mjs';
import { cuttable } from './cut.mjs';
import { Program, freePort } from './processes.mjs';

const here = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const ferryBinary = process.env.MCP_FERRY_BIN ?? resolve(here, '../../target/release/mcp-ferry');
const folder = await mkdtemp(join(tmpdir(), 'mcp-ferry-carried-'));
const SECONDS = 30;

// A reconnecting EventSource reports what it does through rejections nobody awaits.
process.on('unhandledRejection', error => console.error('unhandled:', error));

async function until(what, holds) {
  const deadline = Date.now() + SECONDS * 1000;
  for (let value; Date.now() < deadline; await new Promise(resolve => setTimeout(resolve, 20))) {
    if ((value = await holds())) return value;
  }
  throw new Error(`${SECONDS} s passed without ${what}`);
}

// Notes the messages on their way to a server: `said` are the `initialize`s, or the requests of 2026-07-28.
async function forwarder(port) {
  const seen = [];
  const server = createServer(async (req, res) => {
    const parts = [];
    for await (const part of req) parts.push(part);
    const body = Buffer.concat(parts);
    if (body.length) seen.push(JSON.parse(body));
    const on = request({ port, host: '127.0.0.1', path: req.url, method: req.method, headers: req.headers }, answer => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    on.on('error', () => res.destroy());
    res.on('close', () => on.destroy());
    on.end(body);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/mcp`,
    seen,
    clear: () => void (seen.length = 0),
    initializes: () => seen.filter(({ method }) => method === 'initialize').map(({ params }) => params),
    close: () => (server.closeAllConnections(), server.close()),
  };
}

async function server(...command) {
  const program = new Program(command.join(' '), ['node', ...command], { cwd: here });
  const [, port] = await program.line(/^port (\d+)$/);
  return Object.assign(program, { forwarder: await forwarder(port) });
}

async function keys(name) {
  const file = join(folder, name);
  await writeFile(file, `${randomBytes(32).toString('base64')}\n`, { mode: 0o600 });
  return file;
}

async function ferry(upstream, keyFile, port = 0) {
  const flags = ['--listen', `127.0.0.1:${port}`, '--upstream', upstream.forwarder.url, '--key-file', keyFile];
  const program = new Program('ferry', [ferryBinary, ...flags, '--drain-delay', '0s']);
  const [, own] = await program.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
  return Object.assign(program, { port: Number(own) });
}

// The SDK's own client: made its handshake, and had a question asked by the server.
async function sdkClient(port) {
  const open = await opener('ts-1.0.4');
  const peer = await open(`http://127.0.0.1:${port}/sse`, 'a-root');
  assert.equal((await peer.call('sample', { text: 'first' })).text, 'sampled first');
  return peer;
}

// After the client took up a new stream: the server asks it again, which needs its capabilities.
async function goesOn(peer, former) {
  await until('a new endpoint', () => peer.endpoint() !== former);
  assert.equal((await peer.call('sample', { text: 'again' })).text, 'sampled again');
}

// An EventSource of the platform, and POSTs by hand: what somebody has who uses no SDK.
async function handMade(EventSource, port) {
  const origin = `http://127.0.0.1:${port}`;
  const client = { endpoint: undefined, endpoints: 0, answers: new Map(), ids: new Set() };
  client.source = new EventSource(`${origin}/sse`);
  client.source.addEventListener('endpoint', ({ data }) => {
    client.endpoint = new URL(data, origin);
    client.endpoints++;
  });
  client.source.addEventListener('message', ({ data, lastEventId }) => {
    const message = JSON.parse(data);
    client.ids.add(lastEventId);
    if (message.id !== undefined) client.answers.set(message.id, message);
  });
  client.post = async message => {
    const headers = { 'content-type': 'application/json' };
    const reply = await fetch(client.endpoint, { method: 'POST', headers, body: JSON.stringify({ jsonrpc: '2.0', ...message }) });
    assert.equal(reply.status, 202, await reply.text());
  };
  client.ask = async message => {
    await client.post(message);
    return until(`an answer to ${message.method}`, () => client.answers.get(message.id));
  };
  await until('an endpoint', () => client.endpoint);
  return client;
}

const PARAMS = {
  protocolVersion: '2025-03-26',
  capabilities: { sampling: {}, experimental: { here: { size: 1 } } },
  clientInfo: { name: 'by-hand', version: '0.0.1-é' },
};

async function comesBack(EventSource) {
  const port = await freePort();
  const first = await ferry(old, ours, port);
  const client = await handMade(EventSource, port);
  assert.ok((await client.ask({ id: 1, method: 'initialize', params: PARAMS })).result);
  await client.post({ method: 'notifications/initialized' });
  assert.deepEqual([...client.ids].filter(Boolean).length, 1, 'the client has one event id');
  await first.end('SIGKILL');
  const second = await ferry(old, ours, port);
  await until('a new endpoint', () => client.endpoints === 2);
  assert.ok((await client.ask({ id: 2, method: 'tools/list' })).result.tools.length);
  assert.deepEqual(old.forwarder.initializes(), [PARAMS, PARAMS]);
  client.source.close();
  assert.equal(await second.end(), 0, second.tail());
}

const old = await server('servers/ts.mjs', 'stateful');
const modern = await server('servers/modern.mjs', 'reject');
const ours = await keys('ours');
const others = await keys('others');

const tests = {
  'the SDK comes back to a ferry that was killed and started again': async () => {
    const port = await freePort();
    const first = await ferry(old, ours, port);
    const peer = await sdkClient(port);
    const former = peer.endpoint();
    await first.end('SIGKILL');
    const second = await ferry(old, ours, port);
    await goesOn(peer, former);
    const [said, again, ...more] = old.forwarder.initializes();
    assert.deepEqual([again, more], [said, []]);
    assert.equal(said.clientInfo.name, 'rig-client');
    assert.ok(said.capabilities.sampling && said.capabilities.roots);
    await peer.close();
    assert.equal(await second.end(), 0, second.tail());
  },
  'the SDK comes back to another ferry, and from there to the first': async () => {
    const [one, two] = [await ferry(old, ours), await ferry(old, ours)];
    const relay = await cuttable(one.port);
    const peer = await sdkClient(relay.port);
    for (const { port } of [two, one]) {
      const former = peer.endpoint();
      relay.turn(port);
      relay.cut();
      await goesOn(peer, former);
    }
    const [said, ...more] = old.forwarder.initializes();
    assert.deepEqual(more, [said, said]);
    await peer.close();
    relay.close();
    assert.deepEqual([await one.end(), await two.end()], [0, 0]);
  },
  'to a ferry with other keys it is nobody, and all the same served': async () => {
    const [one, two] = [await ferry(old, ours), await ferry(old, others)];
    const relay = await cuttable(one.port);
    const peer = await sdkClient(relay.port);
    const former = peer.endpoint();
    relay.turn(two.port);
    relay.cut();
    await until('a new endpoint', () => peer.endpoint() !== former);
    assert.equal((await peer.call('echo', { text: 'hello' })).text, 'hello');
    const [, again] = old.forwarder.initializes();
    assert.deepEqual([again.clientInfo.name, again.capabilities], ['mcp-ferry', {}]);
    await peer.close();
    relay.close();
    assert.deepEqual([await one.end(), await two.end()], [0, 0]);
  },
  'a server of 2026-07-28 is told the same of it': async () => {
    const port = await freePort();
    const first = await ferry(modern, ours, port);
    const peer = await sdkClient(port);
    const former = peer.endpoint();
    await first.end('SIGKILL');
    modern.forwarder.clear();
    const second = await ferry(modern, ours, port);
    await goesOn(peer, former);
    const called = modern.forwarder.seen.filter(({ method }) => method === 'tools/call').map(({ params }) => params._meta);
    assert.ok(called.length >= 2, 'a call, and again with the answer');
    for (const meta of called) {
      assert.equal(meta['io.modelcontextprotocol/clientInfo'].name, 'rig-client');
      assert.deepEqual(meta['io.modelcontextprotocol/clientCapabilities'], { sampling: {}, roots: {} });
    }
    await peer.close();
    assert.equal(await second.end(), 0, second.tail());
  },
  'an EventSource (eventsource 2) comes back': async () => comesBack((await import('eventsource-2')).default),
  'an EventSource (eventsource 3) comes back': async () => comesBack((await import('eventsource')).EventSource),
};

for (const [name, run] of Object.entries(tests)) {
  for (const { forwarder } of [old, modern]) forwarder.clear();
  await attempt(name, run);
}
for (const program of [old, modern]) {
  await program.end();
  program.forwarder.close();
}
await rm(folder, { recursive: true });
close();
