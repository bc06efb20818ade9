// CORS and DNS rebinding as a browser sees them: Chromium, pages of an allowed and of a foreign origin, the real ferry,
// and an upstream that counts what reaches it. Names are mapped to the loopback inside the browser only.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { Program } from '../sdk/driver/processes.mjs';
import { attempt, check, close } from '../sdk/soak/report.mjs';

const { chromium } = createRequire(new URL('../sdk/', import.meta.url))('playwright-core');
const binary = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../target/release/mcp-ferry', import.meta.url));
const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--no-proxy-server'],
  '--host-resolver-rules=MAP app.example 127.0.0.1, MAP evil.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

const listen = handler =>
  new Promise(resolve => {
    const server = createServer(handler).listen(0, '127.0.0.1', () => resolve({ server, port: server.address().port }));
  });

// A Streamable HTTP server with a session and a protected tool; everything that reaches it is noted.
async function startUpstream() {
  const seen = [];
  const { server, port } = await listen(async (req, res) => {
    let body = '';
    for await (const chunk of req) body += chunk;
    seen.push({ method: req.method, origin: req.headers.origin, body: body.slice(0, 80) });
    const message = body ? JSON.parse(body) : {};
    const answer = (status, headers, result) => {
      res.writeHead(status, { 'content-type': 'application/json', ...headers });
      res.end(result && JSON.stringify({ jsonrpc: '2.0', id: message.id, result }));
    };
    if (req.method !== 'POST') return answer(req.method === 'DELETE' ? 200 : 405, {});
    if (message.id === undefined) return answer(202, {});
    if (message.method === 'initialize') {
      const result = {
        protocolVersion: '2025-11-25',
        capabilities: {},
        serverInfo: { name: 'upstream', version: '1' },
      };
      return answer(200, { 'mcp-session-id': 'the-session' }, result);
    }
    if (req.headers.authorization !== 'Bearer good') {
      return answer(401, { 'www-authenticate': 'Bearer resource_metadata="https://auth.example/"' });
    }
    return answer(200, {}, { content: [{ type: 'text', text: 'secret' }] });
  });
  return { seen, server, url: `http://127.0.0.1:${port}/mcp` };
}

async function startFerry(upstream, ...flags) {
  const ferry = new Program('ferry', [binary, '--upstream', upstream.url, '--listen', '127.0.0.1:0', ...flags]);
  const [, port] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
  return Object.assign(ferry, { port: Number(port), url: `http://127.0.0.1:${port}` });
}

// --- What runs inside a page. Each returns what the page could see, or the error it got.

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 1,
  method: 'initialize',
  params: { protocolVersion: '2024-11-05', capabilities: {}, clientInfo: { name: 'page', version: '1' } },
};

function inPage([url, initialize]) {
  const outcome = promise => promise.catch(error => ({ error: error.name }));
  const post = (path, message, headers = {}) =>
    fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
      body: JSON.stringify(message),
    });
  const modern = async () => {
    const answer = await post('/mcp', initialize, {
      'mcp-protocol-version': '2025-11-25',
      authorization: 'Bearer good',
    });
    return { status: answer.status, session: answer.headers.get('mcp-session-id'), body: await answer.json() };
  };
  const refused = async () => {
    const call = { jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name: 'secret', arguments: {} } };
    const headers = {
      authorization: 'Bearer bad',
      'mcp-session-id': 'the-session',
      'mcp-method': 'tools/call',
      'mcp-name': 'secret',
    };
    const answer = await post('/mcp', call, { ...headers, 'mcp-param-region': 'north', 'last-event-id': '7' });
    return { status: answer.status, challenge: answer.headers.get('www-authenticate') };
  };
  const ended = async () => {
    const answer = await fetch(`${url}/mcp`, { method: 'DELETE', headers: { 'mcp-session-id': 'the-session' } });
    return { status: answer.status };
  };
  // The old transport by fetch, as newer SDKs read it, with a credential.
  const legacy = async () => {
    const stream = await fetch(`${url}/sse`, {
      headers: { accept: 'text/event-stream', authorization: 'Bearer good' },
    });
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    const event = async () => {
      while (!text.includes('\n\n')) text += (await reader.read()).value;
      const [first, ...rest] = text.split('\n\n');
      text = rest.join('\n\n');
      return first.match(/^data: (.*)$/m)[1];
    };
    const endpoint = await event();
    const posted = await post(endpoint, initialize, { authorization: 'Bearer good' });
    const answer = JSON.parse(await event());
    await reader.cancel();
    return { status: stream.status, posted: posted.status, id: answer.id };
  };
  const eventSource = () =>
    new Promise(resolve => {
      const source = new EventSource(`${url}/sse`);
      const end = value => (source.close(), resolve(value));
      source.addEventListener('endpoint', ({ data }) => end({ endpoint: data.startsWith('/messages') }));
      source.onerror = () => end({ error: 'EventSource' });
    });
  // What a page may send without asking first; its answer stays closed to it.
  const simple = async () => {
    const answer = await fetch(`${url}/mcp`, { method: 'POST', mode: 'no-cors', body: JSON.stringify(initialize) });
    return { type: answer.type };
  };
  return (async () => ({
    modern: await outcome(modern()),
    refused: await outcome(refused()),
    ended: await outcome(ended()),
    legacy: await outcome(legacy()),
    eventSource: await eventSource(),
    simple: await outcome(simple()),
  }))();
}

// --- The checks.

let browser, pages, upstream;

async function inPageOf(host, url) {
  const page = await browser.newPage();
  try {
    await page.goto(`http://${host}:${pages.port}/`);
    return await page.evaluate(inPage, [url, INITIALIZE]);
  } finally {
    await page.close();
  }
}

const NOTHING = {
  modern: { error: 'TypeError' },
  refused: { error: 'TypeError' },
  ended: { error: 'TypeError' },
  legacy: { error: 'TypeError' },
  eventSource: { error: 'EventSource' },
};

// What a page without rights sees, which is nothing; returns what it sent upstream all the same.
async function seesNothing(host, url) {
  const before = upstream.seen.length;
  const { simple, ...seen } = await inPageOf(host, url);
  assert.deepEqual(seen, NOTHING);
  // Browsers send such without asking; the page learns nothing of the answer.
  assert.deepEqual(simple, { type: 'opaque' });
  return upstream.seen.slice(before);
}

async function all(ferries) {
  const [open, closed] = ferries;
  await attempt('a page of the allowed origin uses both transports and reads what it must', async () => {
    const seen = await inPageOf('app.example', open.url);
    assert.equal(seen.modern.status, 200, JSON.stringify(seen.modern));
    assert.equal(seen.modern.session, 'the-session');
    assert.equal(seen.modern.body.result.serverInfo.name, 'upstream');
    assert.deepEqual(seen.refused, { status: 401, challenge: 'Bearer resource_metadata="https://auth.example/"' });
    assert.deepEqual(seen.ended, { status: 200 });
    assert.deepEqual(seen.legacy, { status: 200, posted: 202, id: 1 });
    assert.deepEqual(seen.eventSource, { endpoint: true });
  });
  await attempt('a page of a foreign origin reads nothing, and nothing goes upstream', async () => {
    assert.deepEqual(await seesNothing('evil.example', open.url), []);
  });
  for (const host of ['evil.example', 'app.example']) {
    await attempt(`without --cors a page of ${host} reads nothing`, async () => {
      // What is passed through is for the upstream to judge, and has kept its origin for that.
      for (const { origin } of await seesNothing(host, closed.url))
        assert.equal(origin, `http://${host}:${pages.port}`);
    });
  }
  await attempt('a name that was rebound to the loopback is refused', async () => {
    const before = upstream.seen.length;
    const page = await browser.newPage();
    for (const path of ['/sse', '/mcp', '/messages?sessionId=x']) {
      const answer = await page.goto(`http://evil.example:${open.port}${path}`);
      assert.equal(answer.status(), 403, path);
    }
    // To such a page the ferry is its own origin, and no preflight stands between them.
    const status = await page.evaluate(async message => {
      const headers = { 'content-type': 'application/json' };
      return (await fetch('/mcp', { method: 'POST', headers, body: JSON.stringify(message) })).status;
    }, INITIALIZE);
    assert.equal(status, 403);
    await page.close();
    assert.deepEqual(upstream.seen.slice(before), [], 'something went upstream');
  });
}

const profile = mkdtempSync(join(tmpdir(), 'ferry-browser-'));
try {
  upstream = await startUpstream();
  pages = await listen((_, res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<title>page</title>'));
  const allowed = ['--allowed-origin', `http://app.example:${pages.port}`];
  const ferries = [await startFerry(upstream, '--cors', ...allowed), await startFerry(upstream, ...allowed)];
  browser = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM,
    headless: true,
    args: FLAGS,
  });
  browser.setDefaultTimeout(60_000);
  await all(ferries);
  await browser.close();
  for (const ferry of ferries) await ferry.end('SIGINT', 40);
} catch (error) {
  check('the rig', false, error.stack);
}
rmSync(profile, { recursive: true, force: true });
close();
