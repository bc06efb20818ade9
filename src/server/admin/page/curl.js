// The curl command of one call to the server. Pure.
import { write } from './json.js';

// What curl writes itself, or what concerns one connection only.
const OMITTED = new Set(['host', 'content-length', 'connection', 'transfer-encoding', 'keep-alive', 'te', 'upgrade']);
const SECRET = /\[redacted\]|\[hash [0-9a-f]+\]/gi;

// Quotes for a POSIX shell, so that the command can be pasted into a terminal. A terminal acts on control characters before any
// shell sees quotes: ^C drops the line, a tab asks for completions, and what follows is taken for commands. Texts with such
// characters are written in $'…' without one (bash, ksh, zsh; POSIX since 2024). Line feeds alone may stand in quotes, unless an
// exclamation mark follows: older bashes forget the quotes at a line's end, and take it for an event of their history.
export function shell(text) {
  const all = String(text);
  const plain = !/[^\P{Cc}\n]/u.test(all) && !/\n[^]*!/.test(all);
  return plain ? `'${all.replaceAll("'", `'\\''`)}'` : `$'${all.replace(/[\p{Cc}\\'!]/gu, octal)}'`;
}

// A character as the bytes of its UTF-8: three digits each, so that no digit behind them can be taken for theirs.
const octal = character => [...new TextEncoder().encode(character)].map(byte => `\\${byte.toString(8).padStart(3, '0')}`).join('');

// Secrets were never stored; what stands there instead is what a person has to fill in.
const placeholder = (text, name) => String(text).replace(SECRET, `<${name.toUpperCase().replace(/[^A-Z0-9]+/g, '_')}>`);

// The URL of a call: the target as it went, at the upstream's origin.
export function urlOf(record, upstream) {
  const target = record.http?.target ?? '/';
  let origin = '';
  try {
    origin = new URL(upstream).origin;
  } catch {
    // An upstream that is no URL is shown as it is.
    origin = String(upstream ?? '').replace(/\/+$/, '');
  }
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(target) ? target : origin + target;
}

// In a target, the marks of redaction are percent-encoded.
const MARKS = /%5B(redacted|hash(?:%20|\+)[0-9a-f]+)%5D/gi;
const decodeMarks = target => target.replace(MARKS, mark => decodeURIComponent(mark.replace('+', ' ')));

// `record` is the one that began the call: it has `http`, and the message where there was one.
export function curl(record, upstream) {
  const { method, headers = [] } = record.http ?? { method: 'GET' };
  const fill = [];
  const url = placeholder(decodeMarks(urlOf(record, upstream)), 'secret');
  const lines = [`curl --globoff --no-buffer --request ${shell(method)} --url ${shell(url)}`];
  for (const [name, value] of headers) {
    if (OMITTED.has(name.toLowerCase())) continue;
    if (name.toLowerCase() === 'accept-encoding' && value.trim().toLowerCase() !== 'identity') {
      // curl asks for what it can unpack, and shows it unpacked.
      lines.push('--compressed');
      continue;
    }
    if (value.match(SECRET)) fill.push(name);
    // curl sends an empty header only when it is written with a semicolon.
    lines.push(`--header ${shell(value === '' ? `${name};` : `${name}: ${placeholder(value, name)}`)}`);
  }
  const whole = record.body !== undefined ? write(record.body) : record.text;
  const body = whole?.replaceAll('\0', '');
  if (body !== undefined) lines.push(`--data-raw ${shell(body)}`);
  const notes = [];
  if (fill.length > 0) notes.push(`# Fill in what the tap does not keep: ${fill.map(safe).join(', ')}`);
  if (body?.match(SECRET)) notes.push('# The body has redacted values.');
  if (record.why) notes.push('# The body was compressed and is not kept.');
  if (body !== whole) notes.push('# The body has NUL characters, which no command can be given; they are left out.');
  if (record.cut) notes.push('# The body was cut: only its beginning is here.');
  return [...notes, lines.join(' \\\n  ')].join('\n');
}

// Interactive zshs know no comments unless told to: nothing in one may be of a shell's language. A header's name may hold `|`.
const safe = name => name.replace(/[^\w.-]/g, '?');
