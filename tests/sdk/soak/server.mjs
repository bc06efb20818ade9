// The upstream of soak and drain: the TypeScript SDK 1.32, `server.mjs sessions LOG` with sessions, event streams and
// resumption, or `server.mjs stateless LOG` with plain JSON. Every tool begins by appending the call's nonce to LOG with
// one write, so that what was executed is known whatever kills this process afterwards. GET /control counts sessions.
import { randomUUID } from 'node:crypto';
import { openSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { McpServer } from 'sdk-1.32/server/mcp.js';
import { StreamableHTTPServerTransport } from 'sdk-1.32/server/streamableHttp.js';
import * as types from 'sdk-1.32/types.js';
import * as z from 'zod';
import { EventStore } from '../servers/event-store.mjs';

const [mode, logPath] = process.argv.slice(2);
const log = openSync(logPath, 'a');
const sessions = new Map();
const text = value => ({ content: [{ type: 'text', text: value }] });
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const ASK = { timeout: 20_000 };

function build() {
  const mcp = new McpServer({ name: 'soak', version: '1.0.0' }, { capabilities: { logging: {} } });
  const tool = (name, shape, run) =>
    mcp.registerTool(name, { description: name, inputSchema: { key: z.string(), ...shape } }, (args, extra) => {
      writeSync(log, `${args.key}\n`);
      return run(args, extra);
    });
  tool('echo', {}, async ({ key }) => text(key));
  tool('work', { ms: z.number() }, async ({ key, ms }) => (await pause(ms), text(key)));
  tool('big', { size: z.number() }, async ({ key, size }) => text(`${key}:${'x'.repeat(size)}`));
  tool('steps', { steps: z.number() }, async ({ key, steps }, extra) => {
    const progressToken = extra._meta?.progressToken;
    for (let progress = 1; progress <= steps; progress++) {
      await pause(100);
      if (progressToken === undefined) continue;
      await extra.sendNotification({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
    }
    return text(key);
  });
  tool('ask', { ms: z.number() }, async ({ key, ms }, extra) => {
    await pause(ms);
    const params = { messages: [{ role: 'user', content: { type: 'text', text: key } }], maxTokens: 10 };
    const reply = await extra.sendRequest({ method: 'sampling/createMessage', params }, types.CreateMessageResultSchema, ASK);
    return text(reply.content.text);
  });
  tool('elicit', {}, async ({ key }, extra) => {
    const requestedSchema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };
    const params = { message: key, requestedSchema };
    const reply = await extra.sendRequest({ method: 'elicitation/create', params }, types.ElicitResultSchema, ASK);
    return text(reply.action === 'accept' ? reply.content.answer : reply.action);
  });
  return mcp;
}

async function body(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
}

const refuse = (res, status, message) =>
  res
    .writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message } }));

async function serve(req, res) {
  if (req.url === '/control') return res.end(JSON.stringify({ sessions: sessions.size }));
  const id = req.headers['mcp-session-id'];
  const message = req.method === 'POST' ? await body(req) : undefined;
  if (mode === 'stateless') {
    if (req.method !== 'POST') return refuse(res, 405, 'Method not allowed');
    const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
    const server = build();
    res.on('close', () => void server.close());
    await server.connect(transport);
    return transport.handleRequest(req, res, message);
  }
  if (id === undefined && types.isInitializeRequest(message)) {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new EventStore(),
      retryInterval: 100,
      onsessioninitialized: session => void sessions.set(session, transport),
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await build().connect(transport);
    return transport.handleRequest(req, res, message);
  }
  const transport = sessions.get(id);
  if (!transport) return refuse(res, id === undefined ? 400 : 404, 'Session not found');
  return transport.handleRequest(req, res, message);
}

// A client that leaves in the middle of an answer is what this is for, not a reason to end.
process.on('unhandledRejection', error => console.error('unhandled:', error?.message ?? error));
const server = createServer((req, res) => serve(req, res).catch(() => res.destroy()));
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => console.log(`port ${server.address().port}`));
