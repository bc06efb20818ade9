// Which exchanges are shown: the filter as an object, as the page's query string, and as a test of a row. Pure.
import { elapsed, FRONTS, isBad, OUTCOMES } from './format.js';

// The least duration that `slow` means when none is given, in milliseconds.
export const SLOW = 1000;
const TEXTS = ['connection', 'method', 'name', 'outcome', 'front', 'q'];

export const NO_FILTER = Object.freeze({
  ...{ connection: '', method: '', name: '', outcome: '', front: '', q: '' },
  ...{ slow: undefined, errors: false },
});

// What the page's address says: the filter and what is selected.
export function fromQuery(query) {
  const parameters = new URLSearchParams(query);
  const filter = { ...NO_FILTER };
  for (const key of TEXTS) filter[key] = parameters.get(key) ?? '';
  // What no row can have, and no field can show, is no filter.
  if (!OUTCOMES.includes(filter.outcome)) filter.outcome = '';
  if (!Object.hasOwn(FRONTS, filter.front)) filter.front = '';
  const slow = parameters.get('slow');
  filter.slow = slow && Number(slow) >= 0 && Number.isFinite(Number(slow)) ? Number(slow) : undefined;
  filter.errors = parameters.get('errors') === '1';
  const exchange = Number(parameters.get('exchange'));
  return {
    filter,
    exchange: Number.isSafeInteger(exchange) && exchange > 0 ? exchange : undefined,
    // A connection is looked at, not only filtered for.
    pane: ['legs', 'sequence', 'raw'].includes(parameters.get('view')) ? parameters.get('view') : '',
  };
}

export function toQuery({ filter, exchange, pane }) {
  const parameters = new URLSearchParams();
  for (const key of TEXTS) if (filter[key]) parameters.set(key, filter[key]);
  if (filter.slow !== undefined) parameters.set('slow', String(filter.slow));
  if (filter.errors) parameters.set('errors', '1');
  if (exchange !== undefined) parameters.set('exchange', String(exchange));
  if (pane) parameters.set('view', pane);
  const text = parameters.toString();
  return text ? `?${text}` : '';
}

export const isFiltering = filter => Object.keys(NO_FILTER).some(key => filter[key] !== NO_FILTER[key]);

// The least duration that a reader means by what stands in the field: the usual one by nothing, and none by less than nothing.
export const atLeast = text => (text === '' ? SLOW : Math.max(0, Number(text)));

// The words of a search: separated by blanks, all must occur. What is within double quotes is one word, where these stand
// around the whole of it; other quotes are part of a word, so that a piece of JSON (`"n":4`) is looked for as it is.
export const words = text =>
  [...text.matchAll(/"([^"]*)"(?!\S)|"([^"]*)$|(\S+)/g)].map(match => (match[1] ?? match[2] ?? match[3]).toLowerCase()).filter(Boolean);

// The exchanges of which one record has all the words, of [{ line, record }]. Quotes within a string are escaped in a line: a
// message that was cut is one, and JSON within JSON.
export function withWords(lines, search) {
  const quoted = search.some(word => word.includes('"'));
  const hits = lines.filter(({ line }) => {
    const text = line.toLowerCase();
    const bare = quoted ? text.replaceAll('\\"', '"') : text;
    return search.every(word => text.includes(word) || bare.includes(word));
  });
  return new Set(hits.map(({ record }) => record.exchange).filter(exchange => exchange !== undefined));
}

// Makes the test. `connection(label)` finds a connection's row; `found` has the exchanges whose bodies were searched and
// hold the words, where that has been done.
export function matcher(filter, connection, now, found) {
  const search = words(filter.q);
  const contains = (value, part) => (value ?? '').toLowerCase().includes(part);
  const method = filter.method.toLowerCase();
  const name = filter.name.toLowerCase();
  return function matches(row) {
    if (filter.connection && row.connection !== filter.connection) return false;
    if (filter.outcome && row.outcome !== filter.outcome) return false;
    if (filter.errors && !isBad(row)) return false;
    if (method && !contains(row.method, method)) return false;
    if (name && !contains(row.name, name)) return false;
    if (filter.slow > 0 && elapsed(row, now()) < filter.slow) return false;
    if (filter.front && connection(row.connection)?.front !== filter.front) return false;
    if (search.length === 0 || found?.has(row.exchange)) return true;
    const text = haystack(row, connection(row.connection));
    return search.every(word => text.includes(word));
  };
}

// All of a row that can be read in the lists.
function haystack(row, connection) {
  const parts = [row.connection, row.method, row.name, row.id, row.outcome, row.code, row.status, `#${row.exchange}`];
  parts.push(connection?.client?.name, connection?.client?.version, connection?.peer);
  return parts.filter(part => part !== undefined).join('\n').toLowerCase();
}
