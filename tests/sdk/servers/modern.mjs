// A server made of `@modelcontextprotocol/server` 2.4: `modern.mjs reject` is of revision 2026-07-28 only, `modern.mjs
// stateless` serves handshake clients too, as that SDK does by default.
// It answers with one JSON object where that suffices (`auto`), or in the form that it is told to use.
import { createServer } from 'node:http';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler } from '@modelcontextprotocol/server';
import { buildServer } from './modern-tools.mjs';
import { Recorder } from './recorder.mjs';
import { World, listen } from './world.mjs';

const [legacy, responseMode = 'auto'] = process.argv.slice(2);
if (!['reject', 'stateless'].includes(legacy)) throw new Error('usage: modern.mjs reject|stateless [auto|sse|json]');

const world = new World();
const recorder = new Recorder();
const endpoint = createMcpHandler(() => buildServer(world, endpoint), { legacy, responseMode });
const handle = toNodeHandler(endpoint);

async function serve(req, res) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const message = chunks.length ? JSON.parse(Buffer.concat(chunks)) : undefined;
  recorder.note(req, res, message);
  await handle(req, res, message);
}

listen(
  createServer((req, res) => {
    if (!world.control(req, res, recorder.report())) serve(req, res).catch(error => (console.error(error), res.destroy()));
  }),
);
