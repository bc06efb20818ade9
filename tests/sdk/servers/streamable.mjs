// What the rig's TypeScript SDK 1.32 servers do alike: sessions with event streams and resumption, and a server per
// request with plain JSON. What the servers offer is `build`'s to say.
import { randomUUID } from 'node:crypto';
import { StreamableHTTPServerTransport } from 'sdk-1.32/server/streamableHttp.js';
import { isInitializeRequest } from 'sdk-1.32/types.js';
import { EventStore } from './event-store.mjs';

async function body(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
}

export const refuse = (res, status, message) =>
  res
    .writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32001, message } }));

// `sessions` is a Map from ids to transports.
export const stateful = (build, sessions) => async (req, res) => {
  const id = req.headers['mcp-session-id'];
  const message = req.method === 'POST' ? await body(req) : undefined;
  if (id === undefined && isInitializeRequest(message)) {
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
};

export const stateless = build => async (req, res) => {
  if (req.method !== 'POST') return refuse(res, 405, 'Method not allowed');
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined, enableJsonResponse: true });
  const server = build();
  res.on('close', () => void server.close());
  await server.connect(transport);
  return transport.handleRequest(req, res, await body(req));
};
