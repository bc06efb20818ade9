// From the records of one exchange to two legs side by side: what stands in which column, which message became which, and
// what the ferry changed on the way. Pure.
import { difference, headerDifference } from './diff.js';

// The column of a record: between client and ferry, between ferry and server, or straight through.
export function legOf(record) {
  const parties = [record.from, record.to];
  if (parties.includes('client') && parties.includes('server')) return 'through';
  return parties.includes('server') ? 'server' : 'client';
}

const key = ({ message }) => `${message.type} ${message.method ?? ''}`;

// Who ended a call, where its answer did not: by `why` as the ferry puts it.
const ENDED_BY = new Map([
  ['the ferry ended it', { from: 'ferry', to: 'server' }],
  ['the client gave it up', { from: 'client', to: 'server' }],
]);
const enders = record => (record.kind === 'ended' ? ENDED_BY.get(record.why) : undefined);

// Whose doing a record is, and whom it reaches.
export const partiesOf = record => enders(record) ?? { from: record.from, to: record.to };

// Whether a record tells that something went wrong. To end a call is what a client that leaves does.
export const isFault = record =>
  (record.status ?? 0) >= 400 ||
  record.kind === 'refused' ||
  // Of a message it is said why it was not read, which is nothing bad.
  (record.why !== undefined && record.kind !== 'message' && !enders(record)) ||
  record.message?.type === 'error' ||
  record.message?.tool_error === true;

// Says for each message that left the ferry which one came in for it: a map from sequence numbers to records. Messages of
// the ferry's own calls came from nowhere. A request can leave twice (repeated, or with the answers to questions).
export function origins(records) {
  const waiting = new Map();
  const last = new Map();
  const found = new Map();
  for (const record of records) {
    if (record.kind !== 'message' || !record.message || legOf(record) === 'through') continue;
    const outwards = record.from === 'ferry';
    const side = outwards ? record.to : record.from === 'client' ? 'server' : 'client';
    const name = `${side} ${key(record)}`;
    if (!outwards) {
      waiting.set(name, [...(waiting.get(name) ?? []), record]);
      continue;
    }
    if (record.purpose) continue;
    const queue = waiting.get(name) ?? [];
    // Of several outcomes only the last is handed on; notifications keep their order.
    const outcome = record.message.type === 'result' || record.message.type === 'error';
    const origin = (outcome ? queue.pop() : queue.shift()) ?? last.get(name);
    if (!origin) continue;
    last.set(name, origin);
    found.set(record.seq, origin);
  }
  return found;
}

// Whether the texts of two messages can be compared, and if not, why: nothing was kept of one, or only the beginning.
function obstacle(a, b) {
  const nothing = ({ body, text }) => body === undefined && text === undefined;
  if (nothing(a) || nothing(b)) return 'not kept';
  return a.cut || b.cut ? 'cut' : undefined;
}

// The differences by sequence number: { body, headers } with the marks of that record's own tree, see diff.js; how many
// they are in the bodies; and why some bodies could not be compared, if that is so.
export function changes(records, from = origins(records)) {
  const marks = new Map();
  const put = (record, part, side, found) => {
    const entry = marks.get(record.seq) ?? {};
    entry[part] = { marks: found[side], was: side === 'went' ? found.was : new Map(), inside: found.inside };
    marks.set(record.seq, entry);
  };
  let count = 0;
  let unknown;
  for (const record of records) {
    const origin = from.get(record.seq);
    if (!origin) continue;
    unknown ??= obstacle(origin, record);
    if (origin.body !== undefined && record.body !== undefined) {
      const found = difference(origin.body, record.body);
      count += found.count;
      put(origin, 'body', 'came', found);
      put(record, 'body', 'went', found);
    } else if (!obstacle(origin, record) && origin.text !== record.text) count++;
    if (origin.http && record.http) {
      const found = headerDifference(origin.http.headers, record.http.headers);
      put(origin, 'headers', 'came', found);
      put(record, 'headers', 'went', found);
    }
  }
  return { marks, count, unknown };
}

// What can be said of the changes that changes() found.
export function verdict(records, from, { count, unknown }) {
  const more = unknown && `texts are ${unknown}`;
  if (count > 0) {
    const places = `${unknown ? 'at least ' : ''}${count} place${count === 1 ? '' : 's'} in the messages`;
    return `The ferry changed ${places}${more ? ` (${more})` : ''}:`;
  }
  if (unknown) return `What the ferry changed is not known: ${more}.`;
  const crossed = records.filter(record => record.kind === 'message' && record.message && !record.purpose);
  const first = crossed.find(record => record.to === 'ferry');
  const goal = first?.from === 'client' ? 'server' : 'client';
  if (first && !crossed.some(record => record.to === goal)) return `Nothing of it has been sent to the ${goal}.`;
  if (from.size === 0) return 'What the ferry changed is not known: only a part of it is stored.';
  return 'The ferry changed nothing in the messages.';
}

// What changes() says of one record as a text, to tell whether it still says the same.
export function marksText({ headers, body } = {}) {
  const lists = [headers, body].map(found => [[...(found?.marks ?? [])], [...(found?.was ?? [])]]);
  return JSON.stringify(lists);
}

// Where each record's card stands: { record, leg, row }. Rows go down with time; a message and what became of it stand
// beside each other.
export function arrange(records, from = origins(records)) {
  const next = { client: 1, server: 1 };
  const rows = new Map();
  const cards = [];
  for (const record of records) {
    const leg = legOf(record);
    let row;
    if (leg === 'through' || !record.from) {
      row = Math.max(next.client, next.server);
      next.client = next.server = row + 1;
    } else {
      const beside = rows.get(from.get(record.seq)?.seq) ?? 0;
      row = Math.max(next[leg], beside);
      next[leg] = row + 1;
    }
    rows.set(record.seq, row);
    cards.push({ record, leg: record.from ? leg : 'through', row });
  }
  return cards;
}

// Whether nothing but passed-through traffic is in it: then there is one leg.
export const isPassed = records => records.some(record => record.from && legOf(record) === 'through');
