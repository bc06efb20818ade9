// What became of each message on its way through the ferry: differences, columns, and the sequence.
import assert from 'node:assert/strict';
import test from 'node:test';
import { module, passed, translated } from './page.mjs';

const { difference, headerDifference } = await module('diff');
const { arrange, changes, isFault, isPassed, origins, partiesOf, verdict } = await module('legs');
const { label, layout } = await module('sequence');
const { Exact, parse, same, write } = await module('json');

test('numbers are written as they came', () => {
  const text = '{"a":9007199254740993,"b":1.0,"c":1e400,"d":-0,"e":[1,"2",null,true],"f":{}}';
  const value = parse(text);
  // Older engines, Node 20 among them, do not tell a reviver what stood there: they round, and mean the same number.
  // That Chromium does not round is seen in ../tap.
  if (value.a instanceof Exact) assert.equal(write(value), text);
  else assert.deepEqual(JSON.parse(write(value)), JSON.parse(text));
  assert.equal(same(new Exact('1.0'), new Exact('1.0')), true);
  assert.equal(same(new Exact('1.0'), '1.0'), false);
  assert.deepEqual(JSON.parse(write(parse('{"x":[1,{"y":"z"}]}'), 2)), { x: [1, { y: 'z' }] });
});

test('a message that is written again has no character that deceives', () => {
  const text = write({ 'k\u202E': 'v\u200B\u{E0041}\u007f' });
  assert.match(text, /^[\x20-\x7e]*$/);
  assert.deepEqual(JSON.parse(text), { 'k\u202E': 'v\u200B\u{E0041}\u007f' });
});

test('a difference names what was added, taken away and changed, and where', () => {
  const found = difference({ a: 1, b: { c: [1, 2], d: 'x' }, 'e/f': 0 }, { a: 1, b: { c: [1, 3, 4], g: 1 }, 'e/f': '0' });
  assert.deepEqual(Object.fromEntries(found.came), { '/b/c/1': 'changed', '/b/d': 'removed', '/e~1f': 'changed' });
  assert.deepEqual(Object.fromEntries(found.went), { '/b/c/1': 'changed', '/b/c/2': 'added', '/b/g': 'added', '/e~1f': 'changed' });
  assert.equal(found.was.get('/b/c/1'), '2');
  assert.deepEqual([...found.inside].sort(), ['', '/b', '/b/c']);
  assert.equal(found.count, 5);
  assert.equal(difference({ a: [] }, { a: {} }).went.get('/a'), 'changed');
  assert.equal(difference('a', 'b').came.get(''), 'changed');
  assert.equal(difference({ x: [1, { y: null }] }, { x: [1, { y: null }] }).count, 0);
  assert.equal(difference({}, JSON.parse('{"__proto__":1,"toString":2}')).count, 2);
});

test('headers are compared by name, several of one name as a list', () => {
  const found = headerDifference([['a', '1'], ['b', '1'], ['b', '2'], ['c', 'x']], [['b', '1'], ['b', '3'], ['c', 'x'], ['d', '']]);
  assert.deepEqual(Object.fromEntries(found.came), { a: 'removed', b: 'changed' });
  assert.deepEqual(Object.fromEntries(found.went), { b: 'changed', d: 'added' });
  assert.equal(found.was.get('b'), '1, 2');
  assert.equal(headerDifference([['host', 'a'], ['content-length', '1']], [['connection', 'close']]).came.size, 0);
});

test('each message that left is traced to the one that came in', () => {
  const records = translated();
  const from = origins(records);
  assert.deepEqual([...from].map(([seq, origin]) => [seq, origin.seq]), [[2, 1], [6, 5]]);
  const { marks, count } = changes(records);
  assert.equal(count, 1);
  assert.equal(marks.get(2).body.marks.get('/params/_meta'), 'added');
  assert.equal(marks.get(1).headers.marks.get('x-old'), 'removed');
  assert.equal(marks.get(2).headers.marks.get('accept'), 'changed');
});

// What the page says of the changes in these records.
function said(records) {
  const from = origins(records);
  return verdict(records, from, changes(records, from));
}
// The translated call, its messages as `alter` leaves them.
const altered = alter => translated().map(record => (record.kind === 'message' ? { ...record, ...alter(record) } : record));

test('nothing is said to be unchanged that was not compared whole', () => {
  const same = altered(({ message }) => ({ body: { of: message.type } }));
  assert.equal(said(same), 'The ferry changed nothing in the messages.');
  assert.equal(said(translated()), 'The ferry changed 1 place in the messages:');
  // With --tap-bodies off, and where a body was longer than --tap-max-body.
  assert.equal(said(altered(() => ({ body: undefined }))), 'What the ferry changed is not known: texts are not kept.');
  const cut = { body: undefined, text: '{"jsonrpc"', cut: true };
  assert.equal(said(altered(() => cut)), 'What the ferry changed is not known: texts are cut.');
  const half = altered(({ message }) => (message.type === 'result' ? cut : {}));
  assert.equal(said(half), 'The ferry changed at least 1 place in the messages (texts are cut):');
  // What is no JSON is compared as the text that it is.
  const texts = altered(() => ({ body: undefined, text: 'no JSON' }));
  assert.equal(said(texts), 'The ferry changed nothing in the messages.');
  texts[1].text = 'other';
  assert.equal(said(texts), 'The ferry changed 1 place in the messages:');
  // The request is not stored any more, only what came of it.
  assert.equal(said(same.slice(5)), 'What the ferry changed is not known: only a part of it is stored.');
});

test('what was not sent on is not said to be unchanged', () => {
  const [asked, , , , , answer] = translated();
  const refused = { ...answer, message: { type: 'error', id: 5, code: -32603 } };
  assert.equal(said([asked, refused]), 'Nothing of it has been sent to the server.');
  // A call of the ferry's own is not the client's.
  assert.equal(said([asked, { ...asked, seq: 2, from: 'ferry', to: 'server', purpose: 'discover' }, refused]), 'Nothing of it has been sent to the server.');
  const question = { ...asked, from: 'server', message: { type: 'request', id: 1, method: 'roots/list' } };
  assert.equal(said([question, { ...refused, from: 'ferry', to: 'server' }]), 'Nothing of it has been sent to the client.');
});

test('a call that its client or the ferry has ended goes out from there, and is no fault', async () => {
  const { mermaid } = await module('mermaid');
  const ends = [
    ['the ferry ended it', 'server', 'ferry', 'ferry to server', false, /ferry-->>server: ended/],
    ['the client gave it up', 'server', 'client', 'client to server', false, /client-->>server: ended/],
    ['unexpected end of file', 'server', 'ferry', 'server to ferry', true, /server--xferry: ended/],
    [undefined, 'server', 'ferry', 'server to ferry', false, /server-->>ferry: end/],
  ];
  for (const [why, from, to, way, fault, drawn] of ends) {
    const record = { ...translated().at(-1), from, to, why };
    const parties = partiesOf(record);
    assert.deepEqual([`${parties.from} to ${parties.to}`, isFault(record)], [way, fault], why);
    const { items: [item], lifelines } = layout([record], 800, 60);
    const x = Object.fromEntries(lifelines.map(line => [line.party, line.x]));
    assert.deepEqual([item.from, item.to, item.look.includes('bad')], [x[parties.from], x[parties.to], fault], why);
    assert.match(mermaid([record]), drawn);
  }
  // Only an end can be ended by somebody.
  assert.equal(isFault({ kind: 'refused', why: 'the ferry ended it' }), true);
});

test('the ferry’s own calls come from nobody, and a repeated call from the same message', () => {
  const records = translated();
  const own = { ...records[1], seq: 20, purpose: 'cancel' };
  const again = { ...records[1], seq: 21 };
  const from = origins([...records, own, again]);
  assert.deepEqual([from.get(20), from.get(21)?.seq], [undefined, 1]);
});

test('a message and what became of it stand beside each other', () => {
  const at = arrange(translated()).map(({ record, leg, row }) => [record.seq, leg, row]);
  assert.deepEqual(at, [[1, 'client', 1], [2, 'server', 1], [3, 'client', 2], [4, 'server', 2], [5, 'server', 3], [6, 'client', 3], [7, 'server', 4]]);
  assert.equal(isPassed(translated()), false);
  assert.equal(isPassed(passed()), true);
  assert.deepEqual(arrange(passed()).map(({ leg, row }) => [leg, row]), [['through', 1], ['through', 2], ['through', 3], ['through', 4]]);
});

test('the sequence has an arrow for every record, later ones lower, pauses told', () => {
  const records = translated();
  records[4].time = '2026-11-21T16:40:03.000000Z';
  records[5].time = records[6].time = '2026-11-21T16:40:03.001000Z';
  const { height, items, lifelines } = layout(records, 800, 60);
  assert.deepEqual(lifelines.map(({ party }) => party), ['client', 'ferry', 'server']);
  assert.equal(items.length, records.length);
  for (let i = 1; i < items.length; i++) assert.ok(items[i].y > items[i - 1].y);
  assert.ok(items.at(-1).y < height);
  assert.deepEqual(items.map(item => Math.sign(item.to - item.from)), [1, 1, -1, -1, -1, -1, -1]);
  assert.deepEqual(items.map(item => item.pause !== undefined), [false, false, false, false, true, false, false]);
  assert.ok(items[4].y - items[3].y > items[1].y - items[0].y);
  assert.deepEqual(layout([], 800, 60).items, []);
});

test('an id is not taken for the number of an exchange', () => {
  assert.deepEqual([translated()[0], translated()[4]].map(label), ['tools/call echo id 5', 'result id 5']);
});

test('what is no message is called as the terminal calls it', () => {
  const unknown = { kind: 'message', message: { type: 'unknown' } };
  assert.deepEqual([unknown, { ...unknown, cut: true }].map(label), ['not JSON-RPC', 'cut']);
});

test('a part of a sequence counts from the beginning of the whole', () => {
  const records = translated();
  records[2].time = '2026-11-21T16:40:04.001250Z';
  const { items } = layout(records, 800, 60, { start: 2, end: 4 });
  assert.deepEqual(items.map(item => [item.record.seq, item.offset, item.pause]), [[3, 4000, 3999], [4, 3, undefined]]);
});
