// A serverless-style server that answers with `application/json-lines`: one JSON-RPC message a line, the
// notifications of a call before its result. No SDK serves this form, so it is written by hand; it keeps
// no sessions and answers GET and DELETE with 405.
import { createServer } from 'node:http';
import { World, big, listen, names } from './world.mjs';

const world = new World();
const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const objectOf = properties => ({ type: 'object', properties });
const string = { type: 'string' };
const number = { type: 'number' };

const tools = {
  echo: [{ text: string }, ({ text: said }) => text(said)],
  add: [{ a: number, b: number }, ({ a, b }) => text(a + b)],
  big: [{}, () => text(big())],
  fail: [{ text: string }, ({ text: said }) => ({ ...text(said), isError: true })],
  release: [{ key: string }, ({ key }) => text(world.release(key))],
  slow: [{ key: string }, async ({ key }, { signal }) => text(await world.slow(key, signal))],
  log: [
    { text: string },
    ({ text: said }, { notify }) => {
      notify('notifications/message', { level: 'error', data: said });
      return text('logged');
    },
  ],
  progress: [
    { steps: number, key: string },
    async ({ steps, key }, { notify, progressToken }) => {
      const opened = world.gate(key);
      for (let progress = 1; progress <= steps; progress++) {
        notify('notifications/progress', { progressToken, progress, total: steps });
      }
      await opened;
      return text('done');
    },
  ],
};

const failure = (code, message) => Object.assign(new Error(message), { code });

const methods = {
  initialize: ({ protocolVersion }) => ({
    protocolVersion,
    serverInfo: { name: 'rig-json-lines', version: '1.0.0' },
    capabilities: { tools: {}, prompts: {}, resources: {}, logging: {}, completions: {} },
  }),
  ping: () => ({}),
  'tools/list': () => ({
    tools: Object.entries(tools).map(([name, [shape]]) => ({ name, inputSchema: objectOf(shape) })),
  }),
  'tools/call': ({ name, arguments: args = {}, _meta }, call) => {
    if (!Object.hasOwn(tools, name)) throw failure(-32602, `unknown tool ${name}`);
    return tools[name][1](args, { ...call, progressToken: _meta?.progressToken });
  },
  'prompts/list': () => ({ prompts: [{ name: 'greet', arguments: [{ name: 'name', required: true }] }] }),
  'prompts/get': ({ arguments: { name } }) => ({
    messages: [{ role: 'user', content: { type: 'text', text: `Hello, ${name}!` } }],
  }),
  'resources/list': () => ({ resources: [{ uri: 'mem://counter', name: 'counter' }] }),
  'resources/read': ({ uri }) => ({ contents: [{ uri, mimeType: 'text/plain', text: String(world.counter) }] }),
  'completion/complete': ({ argument }) => ({
    completion: { values: names.filter(name => name.startsWith(argument.value)) },
  }),
  'logging/setLevel': ({ level }) => ((world.level = level), {}),
};

async function serve(req, res) {
  if (req.method !== 'POST') return res.writeHead(405, { allow: 'POST' }).end();
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const { id, method, params = {} } = JSON.parse(Buffer.concat(chunks));
  if (id === undefined || method === undefined) return res.writeHead(202).end();

  res.writeHead(200, { 'content-type': 'application/json-lines' });
  const write = message => res.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  const gone = new AbortController();
  res.on('close', () => gone.abort());
  const call = { signal: gone.signal, notify: (name, body) => write({ method: name, params: body }) };
  try {
    if (!Object.hasOwn(methods, method)) throw failure(-32601, `unknown method ${method}`);
    write({ id, result: await methods[method](params, call) });
  } catch ({ code = -32603, message }) {
    write({ id, error: { code, message } });
  }
  res.end();
}

listen(
  createServer((req, res) => {
    if (!world.control(req, res)) serve(req, res).catch(error => (console.error(error), res.destroy()));
  }),
);
