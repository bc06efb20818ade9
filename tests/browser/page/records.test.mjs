// Records as the page reads them from the API's lines, those that it cannot read among them.
import assert from 'node:assert/strict';
import test from 'node:test';
import { module, translated } from './page.mjs';

const { Api } = await module('api');
const { DEEPEST, parse, same, write } = await module('json');
const { arrange, changes } = await module('legs');
const { withWords } = await module('filter');
const { curlOf } = await module('exports');
const { har } = await module('har');
const { label, layout } = await module('sequence');
const { mermaid } = await module('mermaid');

const nested = levels => '['.repeat(levels) + ']'.repeat(levels);
const UPSTREAM = 'http://127.0.0.1:8000/mcp';

// What the page makes of lines.
function read(context, lines) {
  context.mock.method(globalThis, 'fetch', async () => new Response(lines.map(line => `${line}\n`).join('')));
  return new Api('x').records();
}

test('a record that cannot be read is told as such, and takes no others along', async context => {
  const records = translated();
  const [first, ...others] = records.map(record => write(record));
  const beginning = '{"v":1,"seq":99,"time":"2026-11-21T16:40:00.500250Z"';
  const deep = `${beginning},"connection":"c3","exchange":12,"kind":"message","body":${nested(30_000)}}`;
  const broken = `${beginning},"kind":"mess`;
  const found = await read(context, [first, deep, broken, ...others]);
  assert.deepEqual(found.map(({ line }) => line), [first, deep, broken, ...others]);
  assert.deepEqual(found.toSpliced(1, 2).map(({ record }) => record), records);
  const unread = found[1].record;
  assert.deepEqual([unread.seq, unread.connection, unread.exchange, unread.kind, unread.text], [99, 'c3', 12, 'unread', deep]);
  assert.match(unread.why, /nested deeper than 200 levels/);
  assert.equal(label(unread), 'a record that cannot be read');
  assert.deepEqual([found[2].record.connection, found[2].record.exchange], [undefined, undefined]);
  // All views and exports are made of what is there.
  const all = found.map(({ record }) => record);
  assert.equal(arrange(all).length, all.length);
  assert.equal(changes(all).count, changes(records).count);
  assert.ok(layout(all, 900, 78).items.every(({ y, offset }) => Number.isFinite(y) && Number.isFinite(offset)));
  assert.equal(har(all, { upstream: UPSTREAM }).log.entries.length, 1);
  assert.equal(mermaid(all).trimEnd().split('\n').length, 4 + all.length);
  assert.match(curlOf(all, { upstream: UPSTREAM }), /^# Fill in/);
  assert.deepEqual([...withWords(found, ['[[[[]]]]'])], [12]);
});

test('what no ferry has written is no record', async context => {
  await assert.rejects(read(context, ['<html>']), SyntaxError);
});

test('values are read and written as deep as they may nest, and no deeper', () => {
  const text = nested(DEEPEST);
  assert.equal(write(parse(text)), text);
  assert.ok(same(parse(text), parse(text)));
  for (const levels of [DEEPEST + 1, 1_000_000]) assert.throws(() => parse(nested(levels)), RangeError);
  assert.throws(() => parse('{"a":'.repeat(DEEPEST + 1)), RangeError);
  // Brackets in strings, and those of neighbours, are no levels.
  const flat = JSON.stringify([...Array.from({ length: 300 }, () => [{}]), '[{'.repeat(300), '\\"[[', '"]\\']);
  assert.equal(write(parse(flat)), flat);
});
