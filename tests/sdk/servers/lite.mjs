// mcp-lite with the part of the rig's tool set its API can express: `lite.mjs stateless|sessions`.
// It answers every request but `initialize` with SSE and knows protocol 2025-03-26 and 2025-06-18 only.
import { createServer } from 'node:http';
import { Readable } from 'node:stream';
import { InMemoryClientRequestAdapter, InMemorySessionAdapter, McpServer, StreamableHttpTransport } from 'mcp-lite';
import * as z from 'zod';
import { World, big, listen } from './world.mjs';

const sessions = { stateless: false, sessions: true }[process.argv[2]];
if (sessions === undefined) throw new Error('usage: lite.mjs stateless|sessions');

const world = new World();
const mcp = new McpServer({ name: 'rig-lite', version: '1.0.0', schemaAdapter: schema => z.toJSONSchema(schema) });
const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const tool = (name, shape, handler) => mcp.tool(name, { inputSchema: z.object(shape), handler });

tool('echo', { text: z.string() }, ({ text: said }) => text(said));
tool('add', { a: z.number(), b: z.number() }, ({ a, b }) => text(a + b));
tool('big', {}, () => text(big()));
tool('fail', { text: z.string() }, ({ text: said }) => ({ ...text(said), isError: true }));
tool('progress', { steps: z.number(), key: z.string() }, async ({ steps, key }, ctx) => {
  const opened = world.gate(key);
  for (let progress = 1; progress <= steps; progress++) await ctx.progress({ progress, total: steps });
  await opened;
  return text('done');
});
tool('release', { key: z.string() }, ({ key }) => text(world.release(key)));
// Not cancellable: mcp-lite does not tell a tool.
tool('slow', { key: z.string() }, async ({ key }) => text(await world.slow(key)));
tool('sample', { text: z.string() }, async ({ text: prompt }, ctx) => {
  const reply = await ctx.sample({ prompt, maxTokens: 10 });
  return text(reply.content.text);
});
tool('elicit', { text: z.string() }, async ({ text: message }, ctx) => {
  // A plain schema: mcp-lite takes what Zod makes of one for a validator, by a mark Zod leaves on it.
  const schema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };
  const reply = await ctx.elicit({ message, schema });
  return text(reply.action === 'accept' ? reply.content.answer : reply.action);
});
mcp.resource('mem://counter', { name: 'counter', mimeType: 'text/plain' }, async uri => ({
  contents: [{ uri: uri.href, type: 'text', text: String(world.counter) }],
}));
mcp.prompt('greet', {
  arguments: z.object({ name: z.string() }),
  handler: ({ name }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Hello, ${name}!` } }] }),
});

class Sessions extends InMemorySessionAdapter {
  create(id, meta) {
    world.sessions.set(id, meta);
    return super.create(id, meta);
  }
  delete(id) {
    world.sessions.delete(id);
    return super.delete(id);
  }
}

const transport = new StreamableHttpTransport(
  sessions && {
    sessionAdapter: new Sessions({ maxEventBufferSize: 100 }),
    clientRequestAdapter: new InMemoryClientRequestAdapter({ defaultTimeoutMs: 30_000 }),
  },
);
const handle = transport.bind(mcp);

// mcp-lite speaks Request and Response; node:http speaks streams.
async function serve(req, res) {
  const body = req.method === 'POST' ? Readable.toWeb(req) : undefined;
  const request = new Request(`http://127.0.0.1${req.url}`, { method: req.method, headers: req.headers, body, duplex: 'half' });
  const answer = await handle(request);
  res.writeHead(answer.status, Object.fromEntries(answer.headers));
  if (!answer.body) return res.end();
  const stream = Readable.fromWeb(answer.body);
  res.on('close', () => stream.destroy());
  stream.on('error', () => res.destroy()).pipe(res);
}

listen(
  createServer((req, res) => {
    if (!world.control(req, res)) serve(req, res).catch(error => (console.error(error), res.destroy()));
  }),
);
