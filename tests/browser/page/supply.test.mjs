// How the page keeps itself supplied: against an API whose answers the test gives, on a clock that the test moves.
import assert from 'node:assert/strict';
import test from 'node:test';
import { module } from './page.mjs';

const { Api, supply } = await module('api');

// Lets everything happen that waits for nothing but its turn.
const settle = async () => {
  for (let i = 0; i < 50; i++) await new Promise(resolve => setImmediate(resolve));
};
const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const json = value => new Response(JSON.stringify(value));

// An API: `live` is asked for each attempt and gives a Response, or `stream` for one that the test writes to.
function rig(context, live) {
  const said = [];
  const seen = { said, headers: [], attempts: 0, loads: [], events: [] };
  context.mock.method(globalThis, 'fetch', async (path, { headers, signal }) => {
    seen.headers.push(headers.authorization);
    if (path === '/api/rows') return json({ seq: 1, connections: [], exchanges: [] });
    if (path === '/api/state') return json({ version: '1', started: 5, now: 7 });
    const answer = live(seen.attempts++);
    if (answer) return answer;
    const { readable, writable } = new TransformStream();
    const writer = writable.getWriter();
    signal.addEventListener('abort', () => writer.abort(signal.reason).catch(() => {}));
    seen.write = text => writer.write(new TextEncoder().encode(text));
    seen.end = () => writer.close();
    return new Response(readable);
  });
  context.mock.timers.enable({ apis: ['setTimeout'] });
  seen.stop = supply(new Api('the-token'), {
    load: (rows, state) => (seen.loads.push(state), seen.events.push('load')),
    take: (name, data) => seen.events.push([name, data]),
    say: (state, text) => said.push(`${state} ${text}`.trim()),
  });
  return seen;
}

test('what comes while the rows are loaded is put on top of them', async context => {
  const seen = rig(context, () => undefined);
  await settle();
  void seen.write(event('hello', { seq: 1, now: 99 }) + event('exchange', { exchange: 1 }));
  await settle();
  void seen.write(': alive\n\n' + event('record', { seq: 2 }));
  await settle();
  assert.deepEqual(seen.events, ['load', ['exchange', { exchange: 1 }], ['record', { seq: 2 }]]);
  assert.deepEqual(seen.said, ['connecting', 'live']);
  assert.deepEqual(seen.loads, [{ version: '1', started: 5, now: 99 }]);
  assert.ok(seen.headers.every(header => header === 'Bearer the-token'));
  seen.stop();
});

test('when the tap was cleared the rows are loaded anew, and what comes meanwhile is put on top', async context => {
  const seen = rig(context, () => undefined);
  await settle();
  void seen.write(event('hello', { seq: 1 }) + event('exchange', { exchange: 1 }));
  await settle();
  seen.events.length = 0;
  void seen.write(event('exchange', { exchange: 2 }) + event('cleared', {}) + event('exchange', { exchange: 3 }));
  await settle();
  void seen.write(event('exchange', { exchange: 4 }));
  await settle();
  assert.deepEqual(seen.events, [['exchange', { exchange: 2 }], 'load', ['exchange', { exchange: 3 }], ['exchange', { exchange: 4 }]]);
  assert.deepEqual(seen.said, ['connecting', 'live']);
  seen.stop();
});

test('of rows that were asked for before the tap was cleared nothing is shown', async context => {
  const seen = rig(context, () => undefined);
  await settle();
  void seen.write(event('hello', { seq: 1 }) + event('exchange', { exchange: 1 }) + event('cleared', {}) + event('exchange', { exchange: 2 }));
  await settle();
  assert.deepEqual(seen.events, ['load', ['exchange', { exchange: 2 }]]);
  assert.deepEqual(seen.said, ['connecting', 'live']);
  seen.stop();
});

test('a stream that ends is opened again, later each time until it holds', async context => {
  const busy = () => new Response('{"error":"as many pages are open as may be"}', { status: 503 });
  const seen = rig(context, attempt => (attempt < 3 ? busy() : undefined));
  for (const wait of [500, 1000, 2000]) {
    await settle();
    context.mock.timers.tick(wait - 1);
    await settle();
    const { attempts } = seen;
    context.mock.timers.tick(1);
    await settle();
    assert.equal(seen.attempts, attempts + 1, `after ${wait} ms`);
  }
  void seen.write(event('hello', { seq: 1 }));
  await settle();
  assert.equal(seen.said.at(-1), 'live');
  assert.ok(seen.said.includes('disconnected as many pages are open as may be; trying again in 2 s'), seen.said.join());
  void seen.end();
  await settle();
  assert.equal(seen.said.at(-1), 'disconnected the stream has ended; trying again in 1 s');
  seen.stop();
});

test('a server that says nothing for too long is taken for gone', async context => {
  const seen = rig(context, () => undefined);
  await settle();
  void seen.write(event('hello', { seq: 1 }));
  await settle();
  context.mock.timers.tick(40_000);
  await settle();
  assert.equal(seen.said.at(-1), 'disconnected the server has gone silent; trying again in 1 s');
  seen.stop();
});

test('a wrong token is not tried again', async context => {
  const seen = rig(context, () => new Response('{"error":"wrong token"}', { status: 401 }));
  await settle();
  context.mock.timers.tick(60_000);
  await settle();
  assert.deepEqual([seen.attempts, seen.said], [1, ['connecting', 'denied wrong token']]);
});
