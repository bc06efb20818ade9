// The upstream of soak and drain: the TypeScript SDK 1.32, `server.mjs sessions LOG` with sessions, event streams and
// resumption, or `server.mjs stateless LOG` with plain JSON. Every tool begins by appending the call's nonce to LOG with
// one write, so that what was executed is known whatever kills this process afterwards. GET /control counts sessions.
import { openSync, writeSync } from 'node:fs';
import { createServer } from 'node:http';
import { McpServer } from 'sdk-1.32/server/mcp.js';
import * as types from 'sdk-1.32/types.js';
import * as z from 'zod';
import { stateful, stateless } from '../servers/streamable.mjs';
import { listen } from '../servers/world.mjs';

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
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken, progress, total: steps },
      });
    }
    return text(key);
  });
  tool('ask', { ms: z.number() }, async ({ key, ms }, extra) => {
    await pause(ms);
    const params = { messages: [{ role: 'user', content: { type: 'text', text: key } }], maxTokens: 10 };
    const reply = await extra.sendRequest(
      { method: 'sampling/createMessage', params },
      types.CreateMessageResultSchema,
      ASK,
    );
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

const answer = mode === 'stateless' ? stateless(build) : stateful(build, sessions);

async function serve(req, res) {
  if (req.url === '/control') return res.end(JSON.stringify({ sessions: sessions.size }));
  return answer(req, res);
}

// A client that leaves in the middle of an answer is what this is for, not a reason to end.
process.on('unhandledRejection', error => console.error('unhandled:', error?.message ?? error));
listen(createServer((req, res) => serve(req, res).catch(() => res.destroy())));
