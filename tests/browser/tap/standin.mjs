// A tap whose content the test decides: the page's own files come from the real ferry, its API from here. For what a real ferry
// shows only after long waiting, or in an order that nobody can foresee.
import { createServer } from 'node:http';

export async function startStandIn(ferry) {
  const standIn = new StandIn(ferry.tap);
  standIn.server = createServer((req, res) => void standIn.answer(req, res).catch(() => res.destroy()));
  await new Promise(resolve => standIn.server.listen(0, '127.0.0.1', resolve));
  standIn.tap = `http://127.0.0.1:${standIn.server.address().port}`;
  return standIn;
}

const BEGUN = Date.UTC(2026, 10, 21, 16, 40);

class StandIn {
  token = 'x'.repeat(43);
  rows = new Map();
  connections = new Map();
  records = [];
  #pages = new Set();

  constructor(files) {
    this.files = files;
  }

  async answer(req, res) {
    const { pathname, searchParams } = new URL(req.url, this.tap);
    const json = value => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (pathname === '/api/state') return json({ version: '0', upstream: 'http://127.0.0.1:1/mcp', started: 1, now: Date.now() });
    if (pathname === '/api/rows') return json({ seq: 1, connections: [...this.connections.values()], exchanges: [...this.rows.values()] });
    if (pathname === '/api/clear') {
      this.rows.clear();
      this.tell('cleared', {});
      return res.writeHead(204).end();
    }
    if (pathname === '/api/live') return this.#live(res);
    if (pathname === '/api/records') return res.writeHead(200).end(this.#lines(searchParams));
    const file = await fetch(this.files + req.url);
    res.writeHead(file.status, Object.fromEntries([...file.headers].filter(([name]) => !['connection', 'content-encoding', 'content-length', 'transfer-encoding'].includes(name))));
    res.end(Buffer.from(await file.arrayBuffer()));
  }

  #live(res) {
    res.writeHead(200, { 'content-type': 'text/event-stream' });
    res.write(`event: hello\ndata: ${JSON.stringify({ seq: 1, now: Date.now() })}\n\n`);
    this.#pages.add(res);
    res.on('close', () => this.#pages.delete(res));
  }

  #lines(query) {
    const asks = name => query.get(name) ?? undefined;
    const wanted = record =>
      (asks('exchange') === undefined || record.exchange === Number(asks('exchange'))) &&
      (asks('connection') === undefined || record.connection === asks('connection')) &&
      (asks('after') === undefined || record.seq > Number(asks('after')));
    return this.records.filter(wanted).map(record => `${JSON.stringify(record)}\n`).join('');
  }

  tell(event, data) {
    for (const page of this.#pages) page.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  connection(connection, more) {
    const row = { connection, front: 'sse', peer: '127.0.0.1', opened: Date.now(), in_flight: 0, calls: 0, errors: 0, ...more };
    this.connections.set(connection, row);
    this.tell('connection', row);
  }

  exchange(exchange, more) {
    const row = {
      ...{ exchange, connection: 'c1', direction: 'to-server', type: 'request', method: 'tools/call', name: `tool-${exchange}` },
      ...{ id: String(exchange), started: Date.now(), outcome: 'open', request_bytes: 80, response_bytes: 0, messages: 1, calls: 1 },
      ...more,
    };
    // What is given as undefined is not there.
    this.rows.set(exchange, JSON.parse(JSON.stringify(row)));
    this.tell('exchange', row);
  }

  // Adds a record, `after` milliseconds after the first that could be.
  record(after, more) {
    const record = { v: 1, seq: this.records.length + 1, time: new Date(BEGUN + after).toISOString().replace('Z', '000Z'), connection: 'c1', ...more };
    this.records.push(record);
    this.tell('record', record);
    return record;
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

const body = { jsonrpc: '2.0', method: 'notifications/progress', params: { progressToken: 1, progress: 1, deep: { deeper: ['a', 'b'] } } };
const message = { type: 'notification', method: 'notifications/progress' };

// What a call that streams is made of, for `record`.
export const called = exchange => ({
  ...{ kind: 'message', exchange, from: 'client', to: 'ferry', size: 80, message: { type: 'request', id: 7, method: 'tools/call', name: 'stream' } },
  ...{ body: { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: 'stream', arguments: { a: { b: 1 } } } } },
  http: { method: 'POST', target: '/messages', headers: [['accept', '*/*'], ['content-type', 'application/json']] },
});
export const progress = (exchange, from = 'server', to = 'ferry') => ({ kind: 'message', exchange, from, to, call: 1, size: 60, message, body });
