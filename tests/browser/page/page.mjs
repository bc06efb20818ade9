// The page's own modules for the tests in this folder, and records as the tap's API gives them.
export const module = name => import(new URL(`../../../src/server/admin/page/${name}.js`, import.meta.url));

const { parse } = await module('json');

// A translated tools/call of an old client: its POST, the call to the server, the answers on both legs.
export function translated({ name = 'echo', id = 5, args = {} } = {}) {
  const message = { type: 'request', id, method: 'tools/call', name };
  const sent = { jsonrpc: '2.0', id, method: 'tools/call', params: { name, arguments: args } };
  const onwards = { ...sent, params: { ...sent.params, _meta: { progressToken: 'p' } } };
  const answer = { jsonrpc: '2.0', id, result: { content: [] } };
  const http = (method, target, ...headers) => ({ method, target, headers });
  const parties = (from, to) => ({ from, to });
  const up = { call: 4 };
  return numbered([
    {
      ...{ kind: 'message', ...parties('client', 'ferry'), message, size: 90, body: sent },
      http: http('POST', '/messages?sessionId=%5Bhash%20ab12cd%5D', ['content-type', 'application/json'], ['x-old', 'yes'], ['accept', '*/*']),
    },
    {
      ...{ kind: 'message', ...parties('ferry', 'server'), ...up, message, size: 120, body: onwards },
      http: http('POST', '/mcp?key=%5Bredacted%5D', ['content-type', 'application/json'], ['accept', 'application/json, text/event-stream'],
        ['authorization', 'Bearer [redacted]'], ['content-length', '120'], ['mcp-session-id', '[hash 3fa2c1]']),
    },
    { kind: 'status', ...parties('ferry', 'client'), status: 202, headers: [] },
    { kind: 'status', ...parties('server', 'ferry'), ...up, status: 200, headers: [['content-type', 'text/event-stream']] },
    { kind: 'message', ...parties('server', 'ferry'), ...up, message: { type: 'result', id }, size: 40, body: answer },
    { kind: 'message', ...parties('ferry', 'client'), message: { type: 'result', id }, size: 40, body: answer },
    { kind: 'ended', ...parties('server', 'ferry'), ...up },
  ]);
}

// The same call of a client whose traffic is passed through.
export function passed({ name = 'echo', id = 6 } = {}) {
  const message = { type: 'request', id, method: 'tools/call', name };
  const all = { connection: 'c9', exchange: 13, call: 1 };
  return numbered([
    {
      ...{ kind: 'message', from: 'client', to: 'server', ...all, message, size: 80 },
      body: { jsonrpc: '2.0', id, method: 'tools/call', params: { name } },
      http: { method: 'POST', target: '/mcp', headers: [['content-type', 'application/json']] },
    },
    { kind: 'status', from: 'server', to: 'client', ...all, status: 200, headers: [['content-type', 'application/json']] },
    { kind: 'message', from: 'server', to: 'client', ...all, message: { type: 'result', id }, size: 30, body: { jsonrpc: '2.0', id, result: {} } },
    { kind: 'ended', from: 'server', to: 'client', ...all },
  ], 100);
}

// Gives records what all have, a millisecond apart, and takes them through the text that the API would send.
function numbered(records, first = 1) {
  return records.map((record, i) => {
    const time = new Date(Date.UTC(2026, 10, 21, 16, 40) + i + first).toISOString().replace('Z', '250Z');
    return parse(JSON.stringify({ v: 1, seq: first + i, time, connection: 'c3', exchange: 12, ...record }));
  });
}

// Names that were made to break something: markup, shells, diagrams, terminals, eyes.
export const HOSTILE = [
  '<script>alert(1)</script>',
  "it's \"quoted\" `and` $(run) \\ %s ; & | > < * ? ! # ~",
  'end',
  'a; participant x\n  x->>y: forged',
  '%%{init: {"theme":"dark"}}%%',
  '#35; #lt; &lt; #quot;',
  'Note over client: forged',
  '\u202Egnp.exe\u202C \u200B\u2066',
  '\u001b[31mred\u0007',
  '🚢 Grüße 日本語',
  ':::: ->> -->> --x {} [] ()',
  '',
];
