// Making elements. The only place where text from the wire becomes part of the page: always as a text node or as an attribute
// that holds text, and always with hidden characters made visible.
import { visible } from './format.js';

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'dataset') Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? '' : visible(value));
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const item of children.flat()) {
    if (item === undefined || item === null || item === false) continue;
    element.append(item instanceof Node ? item : visible(item));
  }
}

// An element of HTML: attributes by name, listeners as `onclick` and the like, children as elements or texts.
export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

// An element of SVG.
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Sets an element's text, and touches the page only when it is another.
export function setText(element, text) {
  const shown = visible(text ?? '');
  if (element.textContent !== shown) element.textContent = shown;
}

export function setAttribute(element, name, text) {
  const shown = visible(text ?? '');
  if (element.getAttribute(name) !== shown) element.setAttribute(name, shown);
}

export const byId = id => document.getElementById(id);

// What stands where a secret stood.
const SECRET = /(\[redacted\]|\[hash [0-9a-f]+\])/i;

// A text as nodes, with the places marked where something was redacted.
export function withSecrets(text, options) {
  return String(text)
    .split(SECRET)
    .filter(part => part !== '')
    .map(part =>
      SECRET.test(part)
        ? h('span', { class: 'secret', title: 'Redacted before it was stored' }, part)
        : document.createTextNode(visible(part, options)),
    );
}

export function button(text, title, onclick, attributes = {}) {
  return h('button', { type: 'button', title, onclick, ...attributes }, text);
}

// Copies a text and says so on the button.
export async function copy(text, on) {
  const before = on.textContent;
  try {
    await navigator.clipboard.writeText(text);
    on.textContent = 'copied';
  } catch {
    on.textContent = 'not allowed';
  }
  setTimeout(() => (on.textContent = before), 1500);
}

// Offers a text as a file.
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h('a', { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
