// What the ferry changed: the structural difference of two messages, and of two lists of headers. Pure.
import { isContainer, same, scalar } from './json.js';

// A place in a message: JSON Pointer, RFC 6901.
export const child = (path, key) => `${path}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`;

// Compares what came with what went. Two maps from JSON Pointers to marks, one for each side's tree:
// `came` has 'removed' and 'changed', `went` has 'added' and 'changed'; `was` has the former text of changed scalars.
// A mark on a container holds for all that is in it. `inside` has the containers that enclose a mark.
export function difference(came, went) {
  const marks = { came: new Map(), went: new Map(), was: new Map(), inside: new Set(), count: 0 };
  compare(came, went, '', marks);
  return marks;
}

function mark(marks, side, path, what) {
  marks[side].set(path, what);
  // Every enclosing place, so that a folded tree can show that there is something within.
  for (let at = path; at !== ''; ) {
    at = at.slice(0, at.lastIndexOf('/'));
    marks.inside.add(at);
  }
}

function changed(marks, path, a, b) {
  marks.count++;
  mark(marks, 'came', path, 'changed');
  mark(marks, 'went', path, 'changed');
  if (!isContainer(a)) marks.was.set(path, scalar(a));
}

function compare(a, b, path, marks) {
  if (!isContainer(a) || !isContainer(b) || Array.isArray(a) !== Array.isArray(b)) {
    if (!same(a, b)) changed(marks, path, a, b);
    return;
  }
  for (const key of Object.keys(a)) {
    const place = child(path, key);
    if (Object.hasOwn(b, key)) compare(a[key], b[key], place, marks);
    else {
      marks.count++;
      mark(marks, 'came', place, 'removed');
    }
  }
  for (const key of Object.keys(b)) {
    if (Object.hasOwn(a, key)) continue;
    marks.count++;
    mark(marks, 'went', child(path, key), 'added');
  }
}

// Headers that concern one connection between two programs: each leg has its own, which says nothing of the message.
const HOP = new Set(['host', 'connection', 'content-length', 'transfer-encoding', 'keep-alive', 'te', 'trailer', 'upgrade', 'expect']);

// Compares headers by name; several of one name are compared as their list. Maps from names to marks, as above.
export function headerDifference(came, went) {
  const [a, b] = [byName(came), byName(went)];
  const marks = { came: new Map(), went: new Map(), was: new Map() };
  for (const [name, values] of a) {
    if (!b.has(name)) marks.came.set(name, 'removed');
    else if (b.get(name).join('\n') !== values.join('\n')) {
      marks.came.set(name, 'changed');
      marks.went.set(name, 'changed');
      marks.was.set(name, values.join(', '));
    }
  }
  for (const name of b.keys()) if (!a.has(name)) marks.went.set(name, 'added');
  return marks;
}

function byName(headers) {
  const map = new Map();
  for (const [name, value] of headers ?? []) if (!HOP.has(name)) map.set(name, [...(map.get(name) ?? []), value]);
  return map;
}
