// A TypeScript SDK 1.32 server with the rig's tool set. `node ts.mjs stateful` answers with SSE, keeps
// sessions and an event store; `stateless-json` builds a server per request and answers with plain JSON;
// `legacy` speaks the old HTTP+SSE transport itself, for trying the clients without a ferry between.
import { createServer } from 'node:http';
import { SSEServerTransport } from 'sdk-1.32/server/sse.js';
import { refuse, stateful, stateless } from './streamable.mjs';
import { buildServer } from './ts-tools.mjs';
import { World, listen } from './world.mjs';

const world = new World();

const build = () => buildServer(world, { changed: process.argv[3] === 'changed' });

async function legacy(req, res) {
  const url = new URL(req.url, 'http://localhost');
  if (req.method === 'GET' && url.pathname === '/sse') {
    const transport = new SSEServerTransport('/messages', res);
    world.sessions.set(transport.sessionId, transport);
    res.on('close', () => world.sessions.delete(transport.sessionId));
    return build().connect(transport);
  }
  const transport = world.sessions.get(url.searchParams.get('sessionId'));
  if (!transport) return refuse(res, 404, 'Session not found');
  return transport.handlePostMessage(req, res);
}

const modes = { stateful: stateful(build, world.sessions), 'stateless-json': stateless(build), legacy };
const handle = modes[process.argv[2]];
if (!handle) throw new Error('usage: ts.mjs stateful|stateless-json|legacy [changed]');
listen(
  createServer((req, res) => {
    if (!world.control(req, res)) handle(req, res).catch(error => (console.error(error), res.destroy()));
  }),
);
