// How values are written for people: text that cannot deceive, sizes, durations, times. Pure.

// Characters that are not seen, or that reorder what stands beside them: controls, formats (bidi, zero width, tags),
// lone surrogates, line separators, private use and default-ignorable ones; and variation selectors that select nothing.
const HIDDEN =
  /[\p{Cc}\p{Cs}\p{Co}\p{Zl}\p{Zp}]|(?![\uFE0E\uFE0F])[\p{Cf}\p{Default_Ignorable_Code_Point}]|(?<!\p{Extended_Pictographic})[\uFE0E\uFE0F]/gu;

const escaped = character => {
  const point = character.codePointAt(0);
  const digits = point.toString(16).toUpperCase();
  return point > 0xffff ? `\\u{${digits}}` : `\\u${digits.padStart(4, '0')}`;
};

// The text with every hidden character written as an escape. `lines` keeps line feeds and tabs as they are.
export function visible(text, { lines = false } = {}) {
  const keep = lines ? '\n\t' : '';
  return String(text).replace(HIDDEN, character => (keep.includes(character) ? character : escaped(character)));
}

// Cuts between characters, never within one.
export function shorten(text, length) {
  if (text.length <= length) return text;
  const cut = text.slice(0, length - 1);
  return `${/[\uD800-\uDBFF]$/.test(cut) ? cut.slice(0, -1) : cut}…`;
}

export function bytes(count) {
  if (count === undefined || count === null) return '';
  if (count < 1000) return `${count} B`;
  if (count < 1024 * 1000) return `${(count / 1024).toFixed(count < 10_240 ? 1 : 0)} KiB`;
  return `${(count / 1024 / 1024).toFixed(1)} MiB`;
}

const two = number => String(number).padStart(2, '0');

// A duration in milliseconds with about three digits, and as a clock from a minute on: short enough for a column.
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return '';
  const value = Math.max(0, ms);
  if (value === 0) return '0 ms';
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} ms`;
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 10_000) return `${(value / 1000).toFixed(2)} s`;
  if (value < 60_000) return `${(value / 1000).toFixed(1)} s`;
  const seconds = Math.floor(value / 1000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${two(seconds % 60)} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}:${two(minutes % 60)} h`;
  return age(value);
}

// A duration in the two largest of days, hours, minutes and seconds.
export function age(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// The time of day with milliseconds, in the reader's zone.
export function clock(ms) {
  const date = new Date(ms);
  const seconds = `${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
  return `${two(date.getHours())}:${two(date.getMinutes())}:${seconds}`;
}

// Milliseconds since 1970 of a record's RFC 3339 time; Date knows no microseconds, so they are added.
export function moment(time) {
  const match = /^(.*?\.\d{3})(\d+)(Z|[+-]\d\d:\d\d)$/.exec(time ?? '');
  if (!match) return Date.parse(time);
  return Date.parse(match[1] + match[3]) + Number(`0.${match[2]}`);
}

export const FRONTS = { sse: 'old SSE', session: 'session', pass: 'passed' };
export const FRONT_MEANS = {
  sse: 'The deprecated HTTP+SSE transport: translated by the ferry',
  session: 'Streamable HTTP, with a session of the ferry: translated',
  pass: 'Streamable HTTP, passed through unchanged',
};
export const OUTCOMES = ['open', 'result', 'error', 'tool-error', 'refused', 'cancelled', 'lost', 'missed', 'unread', 'sent'];

// Outcomes that a person looking for errors wants to see.
const BAD = new Set(['error', 'tool-error', 'refused', 'lost']);
export const isBad = row => BAD.has(row.outcome);

// What asked for an answer: requests, and what ended badly though nobody could tell what it was (a broken body).
export const isAsking = row => row.type === 'request' || isBad(row);

export function outcomeText(row) {
  if (row.outcome === 'error' && row.code !== undefined) return `error ${row.code}`;
  if (row.outcome === 'tool-error') return 'tool error';
  if (row.outcome === 'refused' && row.status !== undefined) return `refused ${row.status}`;
  return String(row.outcome);
}

// How long it took, or has taken so far.
export const elapsed = (row, now) => (row.ended ?? now) - row.started;

// An open request counts as hung when it has waited this long, in milliseconds.
export const HUNG = 10_000;
export const isHung = (row, now) => row.outcome === 'open' && now - row.started >= HUNG;
