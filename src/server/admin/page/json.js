// JSON without loss: numbers stay as they were written (9007199254740993, 1.0, 1e400), which JSON.parse alone would change.
// Pure.

// A number whose text JavaScript would not write again.
export class Exact {
  constructor(source) {
    this.source = source;
  }
}

const keepNumbers = (_, value, context) =>
  typeof value === 'number' && context?.source !== undefined && context.source !== String(value)
    ? new Exact(context.source)
    : value;

// How deep objects and arrays may nest. JSON.parse with a reviver recurses, and so does everything here and elsewhere on the page
// that walks through a value. The ferry records nothing deeper than 128 levels as a value; a record is a few more around it.
export const DEEPEST = 200;

// Browsers without `context.source` give rounded numbers; nothing else differs. What is nested too deep is an error.
export function parse(text) {
  if (depth(text) > DEEPEST) throw new RangeError(`it is nested deeper than ${DEEPEST} levels`);
  return JSON.parse(text, keepNumbers);
}

// How many brackets of a text are open at once at most, told without recursion.
function depth(text) {
  let [open, most, quoted] = [0, 0, false];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (quoted) {
      if (character === '\\') at++;
      else if (character === '"') quoted = false;
    } else if (character === '"') quoted = true;
    else if (character === '[' || character === '{') most = Math.max(most, ++open);
    else if (character === ']' || character === '}') open--;
  }
  return most;
}

export const isContainer = value => typeof value === 'object' && value !== null && !(value instanceof Exact);

// Characters that JSON allows in strings but that deceive the eye, as escapes that mean the same.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Default_Ignorable_Code_Point}]/gu;
const unit = code => `\\u${code.toString(16).padStart(4, '0')}`;
const units = character => [...Array(character.length).keys()].map(i => unit(character.charCodeAt(i))).join('');
export const quote = text => JSON.stringify(text).replace(HIDDEN, units);

// A scalar as its JSON text.
export function scalar(value) {
  if (value instanceof Exact) return value.source;
  if (typeof value === 'number') return number(value);
  return typeof value === 'string' ? quote(value) : String(value);
}

// Where numbers could not be kept as they were written, their text is still JSON that means the same number.
function number(value) {
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value);
  return value > 0 ? '1e999' : '-1e999';
}

// The JSON text of a value; `indent` spaces a level, or everything on one line.
export function write(value, indent = 0, level = 0) {
  if (!isContainer(value)) return scalar(value);
  const list = Array.isArray(value);
  const members = list
    ? value.map(item => write(item, indent, level + 1))
    : Object.entries(value).map(([k, v]) => `${quote(k)}:${indent ? ' ' : ''}${write(v, indent, level + 1)}`);
  const [open, close] = list ? '[]' : '{}';
  if (members.length === 0 || indent === 0) return open + members.join(',') + close;
  const inner = '\n' + ' '.repeat(indent * (level + 1));
  return `${open}${inner}${members.join(`,${inner}`)}\n${' '.repeat(indent * level)}${close}`;
}

export function same(a, b) {
  if (a instanceof Exact || b instanceof Exact) return scalar(a) === scalar(b) && typeof a === typeof b;
  if (!isContainer(a) || !isContainer(b)) return a === b;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every(key => Object.hasOwn(b, key) && same(a[key], b[key]));
}
