// What the tests of the tap's page share: the programs, an upstream and an old client made by hand, and pages of Chromium that
// report everything a page should not do.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import assert from 'node:assert/strict';
import { Program } from '../../sdk/driver/processes.mjs';

const binary = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));
const SDK = fileURLToPath(new URL('../../sdk/', import.meta.url));
const { chromium } = createRequire(new URL('../../sdk/', import.meta.url))('playwright-core');

let passed = 0;
let failed = 0;
export const counts = () => ({ passed, failed });

export async function check(name, run) {
  const begun = Date.now();
  try {
    await run();
    passed++;
    console.log(`ok    ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failed++;
    console.log(`FAIL  ${name}: ${error.stack}`);
  }
}

// Waits for what becomes true without anybody telling.
export async function until(what, test, seconds = 60) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await test();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 50));
  }
}

// Waits until an element says just this; otherwise tells what it said last.
export async function says(page, selector, text) {
  let said;
  try {
    await until(text, async () => (said = await page.textContent(selector)) === text);
  } catch (error) {
    throw new Error(`${error.message}; ${selector} says ${JSON.stringify(said)}`);
  }
}

// --- Programs.

// A real server of the TypeScript SDK.
export async function startSdkServer() {
  const server = new Program('server', ['node', 'servers/ts.mjs', 'stateful'], { cwd: SDK });
  const [, port] = await server.line(/(\d{4,5})\s*$/);
  return Object.assign(server, { url: `http://127.0.0.1:${port}/mcp` });
}

// The ferry with its admin listener; `page` is the address that it prints for people.
export async function startFerry(upstream, { listen = '127.0.0.1:0', admin = '127.0.0.1:0', flags = [], env } = {}) {
  const command = [binary, '--upstream', upstream, '--listen', listen, '--admin', admin, ...flags];
  const ferry = new Program('ferry', command, { env });
  const [, port] = await ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
  const [, page] = await ferry.line(/the tap's page: (\S+)/);
  // A token that was given is not printed.
  const { origin: tap, hash } = new URL(page);
  const token = hash ? hash.slice('#token='.length) : env.MCP_FERRY_ADMIN_TOKEN;
  return Object.assign(ferry, { port: Number(port), url: `http://127.0.0.1:${port}`, tap, token, page });
}

// A server that answers what it is asked to, so that hostile text comes from its side too: the tool `reflect` gives its
// arguments back in every place that a server can write to, `never` does not answer, `fail` fails.
export async function startMirror() {
  const server = createServer((req, res) => void mirror(req, res).catch(() => res.destroy()));
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${server.address().port}/mcp`, server };
}

const ascii = text => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 1000);

async function mirror(req, res) {
  let text = '';
  for await (const chunk of req) text += chunk;
  if (req.method !== 'POST') return res.writeHead(req.method === 'DELETE' ? 200 : 405).end();
  const { id, method, params } = JSON.parse(text);
  if (id === undefined) return res.writeHead(202).end();
  const name = params?.name ?? '';
  if (name === 'never') return undefined;
  const headers = { 'content-type': 'application/json', 'mcp-session-id': 'a-session', 'x-mirror': ascii(name) };
  const answer = rest => res.writeHead(200, headers).end(JSON.stringify({ jsonrpc: '2.0', id, ...rest }));
  if (method === 'initialize') {
    const { name: said = '' } = params.clientInfo;
    const serverInfo = { name: `mirror of ${said}`, version: said };
    return answer({ result: { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo } });
  }
  if (name === 'fail') return answer({ result: { content: [], isError: true } });
  if (params?.arguments?.error) return answer({ error: { code: -32000, message: name, data: { [name]: name } } });
  return answer({ result: { content: [{ type: 'text', text: name }], [name || 'empty']: params ?? null } });
}

// An old client by hand: fetch, so that it can send what no SDK would.
export class OldClient {
  #waiting = new Map();
  #next = 1;

  static async open(base, info = { name: 'old-client', version: '0.1' }) {
    const client = new OldClient();
    client.base = base;
    client.stop = new AbortController();
    const endpoint = new Promise(resolve => (client.ready = resolve));
    const stream = await fetch(`${base}/sse`, { headers: { accept: 'text/event-stream' }, signal: client.stop.signal });
    assert.equal(stream.status, 200);
    client.reading = client.#read(stream).catch(() => {});
    client.endpoint = await endpoint;
    await client.ask('initialize', { protocolVersion: '2024-11-05', capabilities: {}, clientInfo: info });
    await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    return client;
  }

  async #read(stream) {
    let text = '';
    for await (const chunk of stream.body.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const events = text.split('\n\n');
      text = events.pop();
      for (const event of events) {
        // Not by a pattern: to those, some characters that JSON may hold end a line.
        const data = event.split('\n').find(line => line.startsWith('data: '))?.slice('data: '.length);
        if (data === undefined) continue;
        if (event.startsWith('event: endpoint')) this.ready(data);
        else this.#take(JSON.parse(data));
      }
    }
  }

  #take(message) {
    const key = JSON.stringify(message.id);
    this.#waiting.get(key)?.(message);
    this.#waiting.delete(key);
  }

  async post(message, headers = {}) {
    const body = JSON.stringify(message);
    const answer = await fetch(this.base + this.endpoint, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
    await answer.arrayBuffer();
    return answer.status;
  }

  // Sends a request and waits for its outcome; `id` and headers can be anything.
  async ask(method, params, { id = this.#next++, headers } = {}) {
    const answered = new Promise(resolve => this.#waiting.set(JSON.stringify(id), resolve));
    const status = await this.post({ jsonrpc: '2.0', id, method, params }, headers);
    assert.equal(status, 202, `${method} ${JSON.stringify(params)}`);
    return answered;
  }

  call = (name, args = {}, options) => this.ask('tools/call', { name, arguments: args }, options);

  async close() {
    this.stop.abort();
    await this.reading;
  }
}

// --- Pages.

export const launch = profile =>
  chromium.launchPersistentContext(profile, {
    ...{ executablePath: process.env.CHROMIUM, headless: true, acceptDownloads: true },
    viewport: { width: 1280, height: 800 },
    permissions: ['clipboard-read', 'clipboard-write'],
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--no-proxy-server'],
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });

// Opens a page that keeps a list of its misdeeds: errors, reports of the security policy, dialogs, and requests elsewhere.
export async function openPage(browser, address, { width = 1280, height = 800, colorScheme = 'light' } = {}) {
  const page = await browser.newPage();
  await page.setViewportSize({ width, height });
  await page.emulateMedia({ colorScheme });
  page.misdeeds = [];
  const note = what => page.misdeeds.push(what.slice(0, 300));
  page.on('console', message => ['error', 'warning'].includes(message.type()) && note(`console: ${message.text()}`));
  page.on('pageerror', error => note(`error: ${error.stack}`));
  page.on('dialog', dialog => (note(`dialog: ${dialog.message()}`), void dialog.dismiss()));
  page.on('popup', popup => note(`popup: ${popup.url()}`));
  const origin = new URL(address).origin;
  page.on('request', request => {
    const url = request.url();
    if (!url.startsWith(`${origin}/`) && !url.startsWith(`blob:${origin}/`)) note(`request: ${url}`);
  });
  await page.addInitScript(() => {
    globalThis.reports = [];
    addEventListener('securitypolicyviolation', event => reports.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
  });
  await page.goto(address);
  return page;
}

// What the address bar shows. The driver is told of changes that load nothing only afterwards, so the page itself is asked.
export const address = async page => new URL(await page.evaluate(() => location.href));

// Nothing may have happened on the page that should not, and nothing that was planted may have run.
export async function innocent(page, ...allowed) {
  const misdeeds = page.misdeeds.filter(text => !allowed.some(pattern => pattern.test(text)));
  assert.deepEqual(misdeeds, []);
  assert.deepEqual(await page.evaluate(() => [...reports, ...(globalThis.ran ? ['a payload ran'] : [])]), []);
}

export const ROW = '#list .row:not([hidden])';

// The live list: opened with the token, loaded, connected.
export async function openTap(browser, ferry, query = '', options) {
  const page = await openPage(browser, `${ferry.tap}/${query}#token=${ferry.token}`, options);
  await page.waitForSelector('#status[data-state=live]');
  return page;
}

// The texts of a column, from top to bottom; in the page rows stand in any order.
export const column = (page, name) =>
  page.locator(ROW).evaluateAll(
    (rows, wanted) => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map(row => row.querySelector(`.${wanted}`).textContent),
    name,
  );

// Opens the newest exchange whose row has `text`, until its pane shows `content`: it may not have arrived yet.
export async function openNewest(page, text, content) {
  await until(`an exchange with ${content}`, async () => {
    const rows = page.locator(ROW, { hasText: text });
    const indices = await rows.evaluateAll(found => found.map(row => Number(row.getAttribute('aria-rowindex'))));
    if (indices.length === 0) return false;
    await page.locator(`${ROW}[aria-rowindex="${Math.max(...indices)}"]`).click();
    const card = page.locator('#detail .card', { hasText: content }).first();
    return card.waitFor({ timeout: 2000 }).then(() => true, () => false);
  });
}
