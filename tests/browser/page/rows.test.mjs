// What the page holds and shows of the lists: the store, the filter and its address, the charts' figures.
import assert from 'node:assert/strict';
import test from 'node:test';
import { module } from './page.mjs';

const { LIMIT, Store, Waiting } = await module('store');
const { NO_FILTER, SLOW, atLeast, fromQuery, isFiltering, matcher, toQuery, withWords, words } = await module('filter');
const { OUTCOMES, outcomeText } = await module('format');
const { SPAN, STEP, overall, series } = await module('series');

const row = (exchange, more = {}) => ({
  ...{ exchange, connection: 'c1', direction: 'to-server', type: 'request', method: 'tools/call', name: 'echo' },
  ...{ id: String(exchange), started: 1000, outcome: 'open', request_bytes: 1, response_bytes: 0, messages: 1, calls: 1 },
  ...more,
});

test('a changed row takes the place of the old one, and members that are gone are gone', () => {
  const store = new Store();
  store.apply({ connections: [], exchanges: [row(1, { code: 3 }), row(2)] });
  const { added, altered } = store.apply({ connections: [], exchanges: [row(1, { outcome: 'result', ended: 5 }), row(3)] });
  assert.deepEqual([added.map(r => r.exchange), altered.map(r => r.exchange)], [[3], [1]]);
  assert.deepEqual(store.rows.map(r => r.exchange), [1, 2, 3]);
  assert.equal(store.rows[0].outcome, 'result');
  assert.equal('code' in store.rows[0], false);
  assert.equal(store.rows[0], store.exchange(1));
});

test('the page never holds more rows than its limit, and counts those that it let go', () => {
  const store = new Store();
  const many = count => Array.from({ length: count }, (_, i) => row(i + 1));
  store.load({ connections: [], exchanges: many(LIMIT + 5) });
  assert.deepEqual([store.rows.length, store.dropped, store.rows[0].exchange], [LIMIT, 5, 6]);
  const { removed } = store.apply({ connections: [], exchanges: [row(LIMIT + 6), row(LIMIT + 7)] });
  assert.deepEqual([store.rows.length, removed, store.dropped, store.exchange(6)], [LIMIT, 2, 7, undefined]);
});

test('an exchange that was let go does not come back as the newest when it changes', () => {
  const store = new Store();
  store.load({ connections: [], exchanges: Array.from({ length: LIMIT }, (_, i) => row(i + 1)) });
  store.apply({ connections: [], exchanges: [row(LIMIT + 1)] });
  const { added, altered, removed } = store.apply({ connections: [], exchanges: [row(1, { outcome: 'result' }), row(2, { outcome: 'result' })] });
  assert.deepEqual([added, altered.map(r => r.exchange), removed, store.dropped], [[], [2], 0, 1]);
  assert.deepEqual([store.rows[0].exchange, store.rows.at(-1).exchange, store.rows.length], [2, LIMIT + 1, LIMIT]);
  // A list that is not full has let nothing go.
  store.load({ connections: [], exchanges: [row(7)] });
  assert.deepEqual(store.apply({ connections: [], exchanges: [row(3)] }).added.map(r => r.exchange), [3]);
});

test('of too many connections those that have closed go first', () => {
  const store = new Store();
  const connections = Array.from({ length: LIMIT }, (_, i) => ({ connection: `c${i}`, closed: i === 7 ? 1 : undefined }));
  store.apply({ connections, exchanges: [] });
  store.apply({ connections: [{ connection: 'new' }], exchanges: [] });
  assert.deepEqual([store.connections.size, store.connections.has('c7'), store.connections.has('c0')], [LIMIT, false, true]);
});

test('what waits for a frame is the newest state of each row, and bounded', () => {
  const waiting = new Waiting();
  for (let i = 0; i < LIMIT + 10; i++) waiting.put('exchange', row(i));
  waiting.put('exchange', row(LIMIT, { outcome: 'result' }));
  waiting.put('connection', { connection: 'c1' });
  assert.equal(waiting.exchanges, LIMIT);
  const { exchanges, connections } = waiting.take();
  assert.deepEqual([exchanges.length, connections.length], [LIMIT, 1]);
  assert.equal(exchanges.find(r => r.exchange === LIMIT).outcome, 'result');
  assert.deepEqual(waiting.take(), { exchanges: [], connections: [] });
});

test('a filter and what is selected survive the way through the address', () => {
  const filter = { connection: 'c3', method: 'tools/call', name: 'a&b=c #d', outcome: 'error', front: 'sse', q: '"two words" x', slow: 250, errors: true };
  const asked = { filter, exchange: 12, pane: 'sequence' };
  assert.deepEqual(fromQuery(toQuery(asked)), asked);
  assert.equal(toQuery({ filter: NO_FILTER }), '');
  // To ask for nothing is to ask, though all have it.
  const any = { ...NO_FILTER, slow: 0 };
  assert.deepEqual([fromQuery(toQuery({ filter: any })).filter, isFiltering(any)], [any, true]);
  for (const query of ['?slow=', '?slow=x', '?slow=1e999', '']) assert.equal(fromQuery(query).filter.slow, undefined, query);
  assert.deepEqual(['', '0', '-5', '250'].map(atLeast), [SLOW, 0, 0, 250]);
  assert.equal(isFiltering(NO_FILTER), false);
});

test('an address that makes no sense is no filter', () => {
  assert.deepEqual(fromQuery('?slow=-1&errors=yes&exchange=1e99&view=%3Cscript%3E&__proto__=x&outcome=bogus&front=toString'), { filter: NO_FILTER, exchange: undefined, pane: '' });
});

test('each part of the filter lets through what it names', () => {
  const client = { name: 'Old Client', version: '1.0' };
  const connections = new Map([['c1', { front: 'sse', client }], ['c2', { front: 'pass' }]]);
  const match = (change, tested, found) => matcher({ ...NO_FILTER, ...change }, label => connections.get(label), () => 3000, found)(tested);
  const cases = [
    [{ connection: 'c1' }, row(1), row(1, { connection: 'c2' })],
    [{ front: 'pass' }, row(1, { connection: 'c2' }), row(1)],
    [{ method: 'TOOLS' }, row(1), row(1, { method: 'ping' })],
    [{ name: 'ech' }, row(1), row(1, { name: undefined })],
    [{ outcome: 'error' }, row(1, { outcome: 'error' }), row(1)],
    [{ errors: true }, row(1, { outcome: 'tool-error' }), row(1, { outcome: 'cancelled' })],
    [{ slow: 2000 }, row(1, { started: 1000 }), row(1, { started: 1000, ended: 2999, outcome: 'result' })],
    [{ q: 'old echo' }, row(1), row(1, { connection: 'c2' })],
    [{ q: '"old client"' }, row(1), row(1, { connection: 'c2', name: 'client old' })],
    [{ q: '#12' }, row(12), row(3)],
  ];
  for (const [change, yes, no] of cases) {
    assert.equal(match(change, yes), true, JSON.stringify(change));
    assert.equal(match(change, no), false, JSON.stringify(change));
  }
  assert.equal(match({ q: 'in the body' }, row(4), new Set([4])), true);
  // Also what seems to begin later, because clocks differ.
  assert.equal(match({ slow: 0 }, row(1, { started: 3001 })), true);
  const lines = [{ line: 'In the BODY', record: { exchange: 4 } }, { line: 'in the body', record: {} }, { line: 'in', record: { exchange: 5 } }];
  assert.deepEqual([...withWords(lines, words('"the body" in'))], [4]);
  assert.deepEqual(words('a "b c" "" "open end'), ['a', 'b c', 'open end']);
});

test('a piece of JSON is looked for as it is', () => {
  const cases = { '"n":4': ['"n":4'], '"n": 4': ['"n":', '4'], 'x "N":"a b" "c d"': ['x', '"n":"a', 'b"', 'c d'], '"n"': ['n'], 'a"b': ['a"b'], '"': [] };
  for (const [text, found] of Object.entries(cases)) assert.deepEqual(words(text), found, text);
  const records = [{ body: { n: 4 } }, { body: { n: 14, m: 4 } }, { text: '{"n":4,"cut' }, { body: { within: '{"n":4}' } }];
  const lines = records.map((record, exchange) => ({ line: JSON.stringify(record), record: { exchange } }));
  assert.deepEqual([...withWords(lines, words('"n":4'))], [0, 2, 3]);
});

test('the charts count what began, what went wrong, and how long it took', () => {
  const now = 10 * SPAN + STEP / 2;
  const ended = (took, more) => row(1, { started: now - STEP - took, ended: now - STEP, outcome: 'result', ...more });
  const rows = [...Array.from({ length: 99 }, () => ended(10)), ended(1000, { outcome: 'error' })];
  rows.push(row(1, { started: now - 2 * SPAN }), row(1, { type: 'notification', started: now, outcome: 'sent', ended: now }));
  const points = series(rows, now);
  assert.equal(points.length, SPAN / STEP);
  const before = points[points.length - 2];
  assert.deepEqual([before.p50, before.p99, before.bad, before.ended], [10, 10, 1, 100]);
  assert.equal(points.reduce((sum, point) => sum + point.rate * (STEP / 1000), 0), 100);
  assert.deepEqual(overall(rows, now), { begun: 100, bad: 1, p50: 10, p99: 10, ended: 100 });
  assert.equal(points[points.length - 1].p50, undefined);
});

test('a request that the ferry refused is an error without a connection, and no measure of the server', () => {
  const refused = { exchange: 3, direction: 'to-server', type: 'unknown', method: 'POST /messages', started: 1000, ended: 1000, outcome: 'refused', status: 413, request_bytes: 9 };
  const match = (change, tested = refused) => matcher({ ...NO_FILTER, ...change }, label => new Map([['c1', { front: 'sse' }]]).get(label), () => 3000)(tested);
  for (const change of [{ errors: true }, { outcome: 'refused' }, { q: 'refused 413' }, { method: 'messages' }, {}]) {
    assert.equal(match(change), true, JSON.stringify(change));
  }
  for (const change of [{ connection: 'c1' }, { front: 'sse' }, { q: 'undefined' }, { outcome: 'error' }]) {
    assert.equal(match(change), false, JSON.stringify(change));
  }
  assert.equal(outcomeText(refused), 'refused 413');
  assert.equal(outcomeText({ outcome: 'refused' }), 'refused');
  assert.ok(OUTCOMES.includes('refused'));
  const broken = { ...refused, outcome: 'error', ended: 1500 };
  const unanswered = { ...refused, outcome: 'sent' };
  assert.deepEqual(overall([refused, broken, unanswered], 2000), { begun: 2, bad: 2, ended: 2, p50: 500, p99: 500 });
  const { bad, ended, p50 } = series([refused, broken, unanswered], 2000).at(-1);
  assert.deepEqual([bad, ended, p50], [2, 2, 500]);
});

test('a call whose answer is compressed has taken its time, and nobody can say that it went badly', () => {
  const unread = row(1, { outcome: 'unread', status: 200, ended: 1400 });
  assert.ok(OUTCOMES.includes('unread'));
  assert.equal(outcomeText(unread), 'unread');
  assert.deepEqual(overall([unread], 2000), { begun: 1, bad: 0, ended: 1, p50: 400, p99: 400 });
  assert.deepEqual(fromQuery(toQuery({ filter: { ...NO_FILTER, outcome: 'unread' } })).filter.outcome, 'unread');
});
