// Text, sizes and times as the page writes them, and the parser of its live stream.
import assert from 'node:assert/strict';
import test from 'node:test';
import { module } from './page.mjs';

const { age, bytes, duration, isHung, moment, shorten, visible } = await module('format');
const { since } = await module('sequence');
const { eventReader } = await module('sse');

test('characters that cannot be seen, or that reorder others, become escapes', () => {
  assert.equal(visible('invoice\u202Efdp.exe'), 'invoice\\u202Efdp.exe');
  assert.equal(visible('a\u0000\u001b[31m\u007f\u0085\n'), 'a\\u0000\\u001B[31m\\u007F\\u0085\\u000A');
  assert.equal(visible('ec\u200Bho\u2066x\u2069\uFEFF\u00AD\u061C'), 'ec\\u200Bho\\u2066x\\u2069\\uFEFF\\u00AD\\u061C');
  assert.equal(visible('tag \u{E0041}'), 'tag \\u{E0041}');
  assert.equal(visible('half \uD800 pair'), 'half \\uD800 pair');
  assert.equal(visible('\u2028\u2029'), '\\u2028\\u2029');
  assert.equal(visible('echo\uFE0F'), 'echo\\uFE0F');
  assert.equal(visible('ㅤ'), '\\u3164');
});

test('what can be read stays as it is', () => {
  for (const text of ['Grüße', '日本語', '🚢', '❤\uFE0F', 'a b', 'שלום']) assert.equal(visible(text), text);
  assert.equal(visible('one\n\ttwo\r', { lines: true }), 'one\n\ttwo\\u000D');
});

test('a text is cut between characters', () => {
  assert.equal(shorten('abcdef', 4), 'abc…');
  assert.equal(shorten('ab🚢🚢', 4), 'ab…');
  assert.equal(shorten('abc', 3), 'abc');
});

test('sizes and durations have about three digits', () => {
  assert.deepEqual([0, 999, 1000, 20_480, 16 * 1024 * 1024].map(bytes), ['0 B', '999 B', '1.0 KiB', '20 KiB', '16.0 MiB']);
  assert.deepEqual(
    [0, 0.25, 3.21, 45.6, 999, 1234, 12_345, 65_000, 903_900, 3_700_000, 90_061_000].map(duration),
    ['0 ms', '0.25 ms', '3.2 ms', '46 ms', '999 ms', '1.23 s', '12.3 s', '1:05 min', '15:03 min', '1:01 h', '1 d 1 h'],
  );
  assert.deepEqual(
    [999, 1234.9, 59_999.9, 60_000, 243_005, 3_600_000].map(since),
    ['999 ms', '1.234 s', '59.999 s', '1:00.000', '4:03.005', '1:00 h'],
  );
  assert.equal(age(90_061_000), '1 d 1 h');
  assert.equal(duration(undefined), '');
});

test('a time keeps its microseconds', () => {
  assert.equal(moment('2026-11-21T16:40:00.123456Z') - moment('2026-11-21T16:40:00.123Z'), 0.4560546875);
  assert.equal(moment('2026-11-21T16:40:00Z'), Date.UTC(2026, 10, 21, 16, 40));
});

test('only an open request hangs, and only after its time', () => {
  assert.equal(isHung({ outcome: 'open', started: 0 }, 9_999), false);
  assert.equal(isHung({ outcome: 'open', started: 0 }, 10_000), true);
  assert.equal(isHung({ outcome: 'result', started: 0 }, 99_999), false);
});

const STREAM = ': hello\n\nevent: exchange\ndata: {"a":1}\n\ndata:one\r\ndata: two\r\n\r\nevent: lonely\n\nid: 1\rretry: 2\rdata\r\rdata: x';
const EVENTS = [
  { event: 'comment', data: '' },
  { event: 'exchange', data: '{"a":1}' },
  { event: 'message', data: 'one\ntwo' },
  { event: 'message', data: '' },
];

test('an event stream is read the same however it is cut into pieces', () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const read = eventReader();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...read(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS, `pieces of ${size}`);
  }
});
