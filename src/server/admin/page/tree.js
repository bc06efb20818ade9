// A JSON value as a tree that folds. Members are built when they are first seen, long lists in pieces, so that a body of
// sixteen MiB costs what is looked at. What the ferry changed is marked at its place.
import { h, withSecrets } from './dom.js';
import { child } from './diff.js';
import { isContainer, scalar } from './json.js';
import { shorten, visible } from './format.js';

// Members shown at once, and characters of a string.
const PIECE = 100;
const STRING = 2000;
// A tree opens so far by itself as it has not more lines than this.
const OPEN_LINES = 60;

const MEANS = {
  added: 'added by the ferry',
  removed: 'not sent on by the ferry',
  changed: 'changed by the ferry',
};

// `found` is what changes() says of this message: marks, was, inside.
export function tree(value, found) {
  const context = { found, deep: isContainer(value) && lines(value, OPEN_LINES) <= OPEN_LINES };
  return h('div', { class: 'tree', role: 'tree', 'aria-label': 'Message' }, node('', value, '', context, 0));
}

// How many lines a value has, counted to a little more than `most`.
function lines(value, most) {
  if (!isContainer(value)) return 1;
  let count = 2;
  for (const item of Object.values(value)) {
    count += lines(item, most - count);
    if (count > most) break;
  }
  return count;
}

function node(name, value, path, context, level) {
  const mark = context.found?.marks.get(path);
  const line = h('div', { class: `line${mark ? ` ${mark}` : ''}`, role: 'treeitem' });
  if (mark) {
    const was = mark === 'changed' ? context.found.was.get(path) : undefined;
    line.title = visible(MEANS[mark] + (was === undefined ? '' : `; was ${shorten(was, 300)}`));
  }
  const label = name === '' ? [] : [h('span', { class: 'key' }, name), ': '];
  if (!isContainer(value)) {
    line.append(h('span', { class: 'gutter' }), ...parts(label), leaf(value));
    return line;
  }
  return branch(line, label, value, path, context, level);
}

const parts = label => label.map(part => (part instanceof Node ? part : document.createTextNode(part)));

function branch(line, label, value, path, context, level) {
  const list = Array.isArray(value);
  const entries = list ? value.map((item, i) => [i, item]) : Object.entries(value);
  const inside = context.found?.inside?.has(path);
  const open = entries.length > 0 && (context.deep || level < 1 || (inside && level < 6));
  const summary = list ? `[ ${entries.length} ]` : preview(entries);
  const members = h('div', { class: 'members', role: 'group' });
  const toggle = h('button', { type: 'button', class: 'fold', 'aria-label': 'Fold or unfold' });
  const brief = h('span', { class: 'brief' }, summary);
  const show = unfolded => {
    line.setAttribute('aria-expanded', String(unfolded));
    if (unfolded && members.childElementCount === 0) piece(members, entries, 0, path, context, level, list);
    members.hidden = !unfolded;
    brief.hidden = unfolded && entries.length > 0;
  };
  const flip = () => show(members.hidden);
  toggle.addEventListener('click', flip);
  brief.addEventListener('click', flip);
  if (inside) line.classList.add('inside');
  line.append(toggle, ...parts(label), h('span', { class: 'brace' }, list ? '[' : '{'), brief);
  line.append(members, h('span', { class: 'brace close' }, list ? ']' : '}'));
  if (entries.length === 0) toggle.disabled = true;
  show(open);
  return line;
}

const preview = entries =>
  shorten(` ${entries.slice(0, 6).map(([key]) => key).join(', ')}${entries.length > 6 ? ', …' : ''} `, 80);

function piece(members, entries, start, path, context, level, list) {
  for (const [key, item] of entries.slice(start, start + PIECE)) {
    // A key that is empty would look like no key.
    const name = list ? String(key) : key === '' ? '""' : key;
    members.append(node(name, item, child(path, key), context, level + 1));
  }
  const next = start + PIECE;
  if (next >= entries.length) return;
  const more = h('button', { type: 'button', class: 'more' }, `${entries.length - next} more`);
  more.addEventListener('click', () => {
    more.remove();
    piece(members, entries, next, path, context, level, list);
  });
  members.append(more);
}

function leaf(value) {
  const text = scalar(value);
  const kind = typeof value === 'string' ? 'string' : value === null ? 'null' : typeof value === 'boolean' ? 'boolean' : 'number';
  if (text.length <= STRING) return h('span', { class: kind }, withSecrets(text));
  const span = h('span', { class: kind }, withSecrets(text.slice(0, STRING)));
  const more = h('button', { type: 'button', class: 'more' }, `${text.length - STRING} more characters`);
  more.addEventListener('click', () => (more.remove(), span.append(...withSecrets(text.slice(STRING)))));
  return h('span', {}, span, more);
}
