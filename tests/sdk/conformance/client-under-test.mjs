// What the conformance suite starts as the client under test: a legacy client with the ferry in front of the
// suite's server. `node client-under-test.mjs CLIENT ERA URL`; the suite gives the scenario in the environment.
// The last line says how it ended, because some scenarios let a client fail without saying so.
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { applicable } from './client-scenarios.mjs';
import { watch } from './watch.mjs';

const SECONDS = 75; // less than the suite allows, so that it is this process which ends its ferry
const INFO = { name: 'conformance-client', version: '1.0.0' };
const ferryBin = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));

// Each gives an unconnected client, its transport, and how to answer what the server asks the user.
const clients = {
  async 'ts-1.0.4'(url) {
    globalThis.EventSource = (await import('eventsource-2')).default; // the platform's, for SDKs before 1.4
    const { Client } = await import('sdk-1.0/client/index.js');
    const { SSEClientTransport } = await import('sdk-1.0/client/sse.js');
    return { client: new Client(INFO, { capabilities: {} }), transport: new SSEClientTransport(new URL('/sse', url)) };
  },
  async 'ts-1.32.2'(url) {
    const { SSEClientTransport } = await import('sdk-1.32/client/sse.js');
    return v1(new SSEClientTransport(new URL('/sse', url)));
  },
  async 'ts-1.32.2-http'(url) {
    const { StreamableHTTPClientTransport } = await import('sdk-1.32/client/streamableHttp.js');
    return v1(new StreamableHTTPClientTransport(new URL('/mcp', url)));
  },
  // Not in front of a ferry: shows what the suite says of a client of its own revision.
  async 'ts-2.4.0'(url) {
    const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
    const options = { capabilities: { elicitation: {}, sampling: {}, roots: {} }, versionNegotiation: { mode: 'auto' } };
    const client = new Client(INFO, options);
    client.setRequestHandler('roots/list', async () => ({ roots: [] }));
    const onElicit = answer => client.setRequestHandler('elicitation/create', ({ params }) => answer(params));
    return { client, transport: new StreamableHTTPClientTransport(new URL(url)), onElicit };
  },
};

async function v1(transport) {
  const { Client } = await import('sdk-1.32/client/index.js');
  const { ElicitRequestSchema } = await import('sdk-1.32/types.js');
  const client = new Client(INFO, { capabilities: { elicitation: {}, sampling: {}, roots: { listChanged: true } } });
  const onElicit = answer => client.setRequestHandler(ElicitRequestSchema, ({ params }) => answer(params));
  return { client, transport, onElicit };
}

const [name, era, server] = process.argv.slice(2);
const { run, flags = [], watched } = applicable[process.env.MCP_CONFORMANCE_SCENARIO];
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');

let ferry;
function end(code, why) {
  console.log(why);
  process.exit(code); // ends what was started, too
}
setTimeout(() => end(1, `no end within ${SECONDS} s; the ferry said:\n${ferry?.tail()}`), SECONDS * 1000);
process.on('unhandledRejection', error => console.error('unhandled:', error));

try {
  const { url: upstream, listening } = watched ? await watch(server) : { url: server };
  let url = upstream;
  if (era !== 'direct') {
    const where = ['--upstream', upstream, '--listen', '127.0.0.1:0', '--upstream-era', era];
    ferry = new Program('ferry', [ferryBin, ...where, ...flags]);
    [, url] = await ferry.line(/listening on (http:\/\/127\.0\.0\.1:\d+)/);
  }
  const { client, transport, onElicit } = await clients[name](url);
  await client.connect(transport);
  await run({ client, onElicit, context, listening, listsFirst: name !== 'ts-1.0.4' });
  await transport.terminateSession?.();
  await client.close();
  const how = (await ferry?.end('SIGINT')) ?? 0;
  if (how !== 0) throw new Error(`the ferry ended with ${how}`);
  end(0, 'the client is content');
} catch (error) {
  end(1, `${error.stack}\nthe ferry said:\n${ferry?.tail()}`);
}
