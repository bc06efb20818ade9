// The tool set of the TypeScript SDK 1.32 servers: the same names, arguments and replies as
// `python_130.py`, `python_23.py`, `lite.mjs` and `json-lines.mjs`, so that one set of scenarios fits all.
import { McpServer } from 'sdk-1.32/server/mcp.js';
import { completable } from 'sdk-1.32/server/completable.js';
import * as types from 'sdk-1.32/types.js';
import * as z from 'zod';
import { big, names } from './world.mjs';

const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

// `changed` is the same server in a later version: a tool is gone, another describes itself differently, a third answers so.
export function buildServer(world, { changed = false } = {}) {
  const mcp = new McpServer(
    { name: 'rig-ts', version: changed ? '2.0.0' : '1.0.0' },
    { capabilities: { logging: {}, tools: { listChanged: true }, resources: { subscribe: true, listChanged: true } } },
  );
  const subscribed = new Set();
  const tool = (name, inputSchema, run) => mcp.registerTool(name, { description: name, inputSchema }, run);
  const described = changed ? 'says it again' : 'echo';

  mcp.registerTool('echo', { description: described, inputSchema: { text: z.string() } }, async ({ text: said }) => text(said));
  tool('add', { a: z.number(), b: z.number() }, async ({ a, b }) => text(changed ? `${a} + ${b} = ${a + b}` : a + b));
  tool('big', {}, async () => text(big()));
  tool('fail', { text: z.string() }, async ({ text: said }) => ({ ...text(said), isError: true }));
  tool('session', {}, async (_, extra) => text(extra.sessionId ?? 'none'));
  tool('slow', { key: z.string() }, async ({ key }, extra) => text(await world.slow(key, extra.signal)));

  tool('progress', { steps: z.number(), key: z.string() }, async ({ steps, key }, extra) => {
    const progressToken = extra._meta?.progressToken;
    const opened = world.gate(key);
    for (let progress = 1; progress <= steps && progressToken !== undefined; progress++) {
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress, total: steps },
      });
    }
    await opened;
    return text('done');
  });
  tool('release', { key: z.string() }, async ({ key }) => text(world.release(key)));
  tool('log', { text: z.string() }, async ({ text: said }, extra) => {
    await extra.sendNotification({ method: 'notifications/message', params: { level: 'error', data: said } });
    return text('logged');
  });

  tool('sample', { text: z.string() }, async ({ text: said }, extra) => {
    const params = { messages: [{ role: 'user', content: { type: 'text', text: said } }], maxTokens: 10 };
    const reply = await extra.sendRequest({ method: 'sampling/createMessage', params }, types.CreateMessageResultSchema);
    return text(reply.content.text);
  });
  tool('elicit', { text: z.string() }, async ({ text: said }, extra) => {
    const requestedSchema = { type: 'object', properties: { answer: { type: 'string' } }, required: ['answer'] };
    const params = { message: said, requestedSchema };
    const reply = await extra.sendRequest({ method: 'elicitation/create', params }, types.ElicitResultSchema);
    return text(reply.action === 'accept' ? reply.content.answer : reply.action);
  });
  tool('roots', {}, async (_, extra) => {
    const reply = await extra.sendRequest({ method: 'roots/list' }, types.ListRootsResultSchema);
    return text(JSON.stringify(reply.roots.map(root => root.uri)));
  });
  if (!changed) tool('ping', {}, async (_, extra) => {
    await extra.sendRequest({ method: 'ping' }, types.EmptyResultSchema);
    return text('pong');
  });

  // Unrelated to its own call on purpose: these travel on the listen stream, not on the reply's.
  tool('bump', {}, async () => {
    world.counter++;
    for (const uri of subscribed) await mcp.server.sendResourceUpdated({ uri });
    mcp.sendToolListChanged();
    return text(world.counter);
  });

  // The deliberate early close of 2025-11-25: the reply's stream ends first, the answer waits to be fetched.
  tool('early', { text: z.string() }, async ({ text: said }, extra) => {
    if (!extra.closeSSEStream) throw new Error('this client cannot resume a stream');
    extra.closeSSEStream();
    await pause(300);
    return text(said);
  });

  mcp.registerResource('counter', 'mem://counter', { mimeType: 'text/plain' }, async uri => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: String(world.counter) }],
  }));
  const name = completable(z.string(), typed => names.filter(known => known.startsWith(typed)));
  mcp.registerPrompt('greet', { description: 'greet', argsSchema: { name } }, ({ name: who }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Hello, ${who}!` } }],
  }));

  mcp.server.setRequestHandler(types.SubscribeRequestSchema, async ({ params }) => {
    subscribed.add(params.uri);
    return {};
  });
  mcp.server.setRequestHandler(types.SetLevelRequestSchema, async ({ params }) => {
    world.level = params.level;
    return {};
  });
  return mcp;
}
