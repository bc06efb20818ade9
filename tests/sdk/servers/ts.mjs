// A TypeScript SDK 1.32 server with the rig's tool set. `node ts.mjs stateful` answers with SSE, keeps
// sessions and an event store; `stateless-json` builds a server per request and answers with plain JSON;
// `legacy` speaks the old HTTP+SSE transport itself, for trying the clients without a ferry between.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { SSEServerTransport } from 'sdk-1.32/server/sse.js';
import { StreamableHTTPServerTransport } from 'sdk-1.32/server/streamableHttp.js';
import { isInitializeRequest } from 'sdk-1.32/types.js';
import { EventStore } from './event-store.mjs';
import { buildServer } from './ts-tools.mjs';
import { World, listen } from './world.mjs';

const world = new World();

async function body(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
}

const refuse = (res, status, message) =>
  res
    .writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message } }));

async function stateful(req, res) {
  const id = req.headers['mcp-session-id'];
  const message = req.method === 'POST' ? await body(req) : undefined;
  if (id === undefined && isInitializeRequest(message)) {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new EventStore(),
      retryInterval: 100,
      onsessioninitialized: session => void world.sessions.set(session, transport),
    });
    transport.onclose = () => world.sessions.delete(transport.sessionId);
    await buildServer(world).connect(transport);
    return transport.handleRequest(req, res, message);
  }
  const transport = world.sessions.get(id);
  if (!transport) return refuse(res, id === undefined ? 400 : 404, 'Session not found');
  return transport.handleRequest(req, res, message);
}

async function stateless(req, res) {
  if (req.method !== 'POST') return refuse(res, 405, 'Method not allowed');
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  const server = buildServer(world);
  res.on('close', () => void server.close());
  await server.connect(transport);
  return transport.handleRequest(req, res, await body(req));
}

async function legacy(req, res) {
  const url = new URL(req.url, 'http://localhost');
  if (req.method === 'GET' && url.pathname === '/sse') {
    const transport = new SSEServerTransport('/messages', res);
    world.sessions.set(transport.sessionId, transport);
    res.on('close', () => world.sessions.delete(transport.sessionId));
    return buildServer(world).connect(transport);
  }
  const transport = world.sessions.get(url.searchParams.get('sessionId'));
  if (!transport) return refuse(res, 404, 'Session not found');
  return transport.handlePostMessage(req, res);
}

const handle = { stateful, 'stateless-json': stateless, legacy }[process.argv[2]];
if (!handle) throw new Error('usage: ts.mjs stateful|stateless-json|legacy');
listen(
  createServer((req, res) => {
    if (!world.control(req, res)) handle(req, res).catch(error => (console.error(error), res.destroy()));
  }),
);
