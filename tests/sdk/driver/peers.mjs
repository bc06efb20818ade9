// The two axes of the matrix as data: which clients, which servers, how each is started, and the words
// (names of tools, texts of replies) a server uses. `matrix.mjs` puts them together. In dialects `$` stands for the call's own nonce and
// `$BIG` for the megabyte pattern.
const node = script => (...args) => ['node', `servers/${script}`, ...args];
const venv = (version, script) => (...args) => [`../../target/sdk/py-${version}/bin/python`, `servers/${script}`, ...args];

const ours = server => ({
  server,
  tools: ['echo', 'add', 'big', 'fail', 'progress'],
  echo: { tool: 'echo', args: { text: '$' }, reply: '$' },
  add: { tool: 'add', args: { a: 2, b: 3 }, reply: '5' },
  big: { tool: 'big', reply: '$BIG' },
  fail: { tool: 'fail', args: { text: '$' }, reply: '$' },
  progress: { tool: 'progress', args: { steps: 3, key: '$' }, reply: 'done', release: 'release' },
  log: { level: 'warning', tool: 'log', args: { text: '$' }, contains: '$' },
  slow: { tool: 'slow', args: { key: '$' } },
  sample: { tool: 'sample', args: { text: '$' }, reply: 'sampled $' },
  elicit: { tool: 'elicit', args: { text: '$' }, reply: 'answer to $' },
  roots: { tool: 'roots', reply: '["file:///rig/$"]' },
  resource: { uri: 'mem://counter', matches: '^[0-9]+$' },
  subscribe: { uri: 'mem://counter', trigger: { tool: 'bump' } },
  listChanged: { trigger: { tool: 'bump' }, method: 'notifications/tools/list_changed' },
  prompt: { name: 'greet', args: { name: '$' }, reply: 'Hello, $!' },
  completion: { prompt: 'greet', argument: 'name', value: 'A', values: ['Ada', 'Alan'] },
});

// FastMCP puts its own words before a tool's error.
const python = {
  ...ours('rig-python'),
  fail: { tool: 'fail', args: { text: '$' }, reply: 'Error executing tool fail: $' },
};

const modern = server => ({
  ...ours(server),
  fail: server === 'rig-modern-python' ? python.fail : ours(server).fail,
  instructions: 'Ask before you bump. Żółć 漢字.',
  names: '["Ada","Alan","Grace"]',
});

const everything = {
  server: 'mcp-servers/everything',
  tools: ['echo', 'get-sum', 'get-roots-list'],
  echo: { tool: 'echo', args: { message: '$' }, reply: 'Echo: $' },
  add: { tool: 'get-sum', args: { a: 2, b: 3 }, contains: ' 5' },
  big: { tool: 'echo', args: { message: '$BIG' }, reply: 'Echo: $BIG' },
  fail: { tool: 'echo', contains: 'Input validation error' },
  progress: { tool: 'trigger-long-running-operation', args: { duration: 1, steps: 4 }, contains: 'completed' },
  log: { level: 'debug', tool: 'toggle-simulated-logging', contains: 'evel', undo: true },
  slow: { tool: 'trigger-long-running-operation', args: { duration: 80, steps: 2 } },
  sample: { tool: 'trigger-sampling-request', args: { prompt: '$', maxTokens: 10 }, contains: '$' },
  elicit: { tool: 'trigger-elicitation-request', contains: 'answer to Please provide' },
  roots: { tool: 'get-roots-list', contains: 'file:///rig/$' },
  resource: { uri: 'demo://resource/static/document/features.md', matches: '[Ff]eature' },
  subscribe: { uri: 'demo://resource/dynamic/text/1', trigger: { tool: 'toggle-subscriber-updates' }, undo: true },
  listChanged: {
    trigger: { tool: 'gzip-file-as-resource', args: { name: '$.gz', data: 'data:text/plain,rig', outputType: 'resource' } },
    method: 'notifications/resources/list_changed',
  },
  prompt: { name: 'args-prompt', args: { city: '$' }, reply: "What's weather in $?" },
  completion: { prompt: 'completable-prompt', argument: 'department', value: 'S', values: ['Sales', 'Support'] },
};

const ts = node('ts.mjs');
const lite = node('lite.mjs');
const py130 = venv('1.30.0', 'python_130.py');
const py23 = venv('2.3.0', 'python_23.py');

const named = servers => Object.fromEntries(Object.entries(servers).map(([name, server]) => [name, { name, ...server }]));

export const servers = named({
  everything: {
    command: ['node', 'node_modules/@modelcontextprotocol/server-everything/dist/index.js', 'streamableHttp'],
    dialect: everything,
    // It has no side channel; its log says when sessions begin and end.
    foreign: true,
  },
  // Of revision 2026-07-28 only; first, because these lanes are the longest.
  'ts2.4-modern': { command: node('modern.mjs')('reject'), dialect: modern('rig-modern-ts'), modernOnly: true },
  'py2.3-modern': { command: venv('2.3.0', 'python_modern.py')(), dialect: modern('rig-modern-python'), modernOnly: true },
  'ts-stateful': { command: ts('stateful'), dialect: ours('rig-ts') },
  'ts-stateless-json': { command: ts('stateless-json'), dialect: ours('rig-ts') },
  'py1.30-stateful-sse': { command: py130('stateful', 'sse'), dialect: python },
  'py1.30-stateful-json': { command: py130('stateful', 'json'), dialect: python },
  'py1.30-stateless-sse': { command: py130('stateless', 'sse'), dialect: python },
  'py1.30-stateless-json': { command: py130('stateless', 'json'), dialect: python },
  'py2.3-stateful': { command: py23(), dialect: python, dual: true },
  'lite-stateless': { command: lite('stateless'), dialect: ours('rig-lite') },
  'lite-sessions': { command: lite('sessions'), dialect: ours('rig-lite') },
  'json-lines': { command: node('json-lines.mjs')(), dialect: ours('rig-json-lines') },
  // Of both eras: served in the handshake era by default, whatever the client, and as a modern one where the ferry is
  // told; that one answers in events only.
  'ts2.4-dual-stateless': {
    command: node('modern.mjs')('stateless'),
    dialect: modern('rig-modern-ts'),
    dual: true,
  },
  'ts2.4-dual-as-modern': {
    command: node('modern.mjs')('stateless', 'sse'),
    dialect: modern('rig-modern-ts'),
    modernOnly: true,
    flags: ['--upstream-era', 'modern'],
  },
  // Of the handshake era at first, until a scenario puts one of the other era in its place under a running ferry.
  'ts-changing': {
    command: ts('stateful'),
    dialect: ours('rig-ts'),
    changing: true,
  },
  // Not behind a ferry: the old transport spoken by the SDK itself, to tell a fault of the rig from one
  // of the ferry. Runs only when it is asked for by name.
  'legacy-direct': { command: ts('legacy'), dialect: ours('rig-ts'), direct: true },
});

const tsClient = (name, more) => ({ command: ['node', 'clients/typescript.mjs'], name, ...more });
const pyClient = (name, more) => {
  const version = name.split('-')[1];
  return { command: [`../../target/sdk/py-${version}/bin/python`, 'clients/python.py'], name, ...more };
};
// A client of the ferry's /mcp; those that `speak` a revision without a handshake pass through it untouched.
const http = { modern: true };
const without = { modern: true, speaks: '2026-07-28' };

export const clients = Object.fromEntries(
  [
    tsClient('ts-1.0.4'),
    tsClient('ts-1.10.2'),
    tsClient('ts-1.32.2'),
    tsClient('ts-1.32.2-http', http),
    tsClient('ts-2.4.0'),
    tsClient('ts-2.4.0-auto'),
    tsClient('ts-2.4.0-http', http),
    tsClient('ts-2.4.0-modern', without),
    pyClient('py-1.2.0'),
    pyClient('py-1.9.4'),
    pyClient('py-1.30.0'),
    pyClient('py-1.30.0-http', http),
    pyClient('py-2.3.0'),
    pyClient('py-2.3.0-Client'),
    pyClient('py-2.3.0-modern', without),
  ].map(client => [client.name, client]),
);
