// One record as a card: what crossed, with its HTTP head, its body, and what the ferry changed of it.
import { bytes, clock, moment, shorten, visible } from './format.js';
import { button, copy, h, withSecrets } from './dom.js';
import { label, since } from './sequence.js';
import { isFault, legOf, partiesOf } from './legs.js';
import { tree } from './tree.js';
import { write } from './json.js';

const MEANS = { added: 'added by the ferry', removed: 'not sent on by the ferry', changed: 'changed by the ferry' };

// `begin` is the time of the exchange's first record; `found` what changes() says of this one; `wordy` names the
// parties, where no column does.
export function card(record, { begin, found = {}, front, wordy } = {}) {
  const at = moment(record.time);
  const box = h('article', {
    class: `card ${record.kind}${isFault(record) ? ' bad' : ''}`,
    'aria-label': `${ways(record)} ${label(record)}`,
    dataset: { seq: record.seq },
  });
  const tools = h('span', { class: 'tools' });
  box.append(
    h('header', {},
      record.from && h('span', { class: 'way', title: ways(record) }, wordy ? ways(record) : arrow(record)),
      h('strong', {}, title(record, front)),
      badges(record, front),
      h('span', { class: 'spacer' }),
      tools,
      h('time', { title: record.time }, begin === undefined ? clock(at) : `+${since(at - begin)}`),
    ),
  );
  if (record.http) box.append(requestLine(record.http), headers(record.http.headers, found.headers, 'Request headers'));
  if (record.headers) box.append(headers(record.headers, undefined, 'Answer headers'));
  if (record.why !== undefined) box.append(h('p', { class: 'why' }, record.why));
  body(box, tools, record, found.body);
  return box;
}

const ORDER = ['client', 'ferry', 'server'];

function ways(record) {
  const { from, to } = partiesOf(record);
  return from && to ? `${from} → ${to}` : '';
}

function arrow(record) {
  const { from, to } = partiesOf(record);
  return ORDER.indexOf(from) < ORDER.indexOf(to) ? '→' : '←';
}

function title(record, front) {
  const { message } = record;
  if (message) return label(record);
  if (record.kind === 'status') return `HTTP ${record.status}`;
  // The reason has a line of its own.
  if (record.kind === 'refused') return `refused ${record.status ?? ''}`.trim();
  if (record.kind === 'ended') return legOf(record) === 'client' && front === 'sse' ? 'answer over' : 'call over';
  return label(record);
}

function badges(record, front) {
  const list = [];
  const badge = (text, tip, kind = '') => list.push(h('span', { class: `badge ${kind}`, title: tip }, text));
  if (record.call !== undefined) badge(`call ${record.call}`, 'Number of the HTTP request to the server on this connection');
  if (record.purpose) badge('ferry’s own', `A call that the ferry makes by itself: ${record.purpose}`, 'own');
  // Elsewhere it may be an event or the answer's body.
  if (record.kind === 'message' && record.message && !record.http && record.to === 'client' && front === 'sse') {
    badge('event', 'A message of the client’s event stream');
  }
  if (record.cut) badge('cut', 'Only the beginning was kept, see --tap-max-body', 'warn');
  if (record.size !== undefined) list.push(h('span', { class: 'size' }, bytes(record.size)));
  return list;
}

const requestLine = http => h('p', { class: 'request-line' }, h('b', {}, http.method), ' ', withSecrets(decoded(http.target)));

// Marks of redaction are percent-encoded in a target.
function decoded(target) {
  return target.replace(/%5B(redacted|hash(?:%20|\+)[0-9a-f]+)%5D/gi, mark => decodeURIComponent(mark.replace('+', ' ')));
}

function headers(list, found, name) {
  if (list.length === 0) return h('p', { class: 'none' }, 'no headers');
  const marked = list.filter(([key]) => found?.marks.has(key)).length;
  const rows = list.map(([key, value]) => {
    const mark = found?.marks.get(key);
    const was = mark === 'changed' ? found.was.get(key) : undefined;
    const tip = mark && MEANS[mark] + (was === undefined ? '' : `; was ${shorten(was, 300)}`);
    return h('div', { class: `header${mark ? ` ${mark}` : ''}`, title: tip }, h('dt', {}, key), h('dd', {}, withSecrets(value)));
  });
  const said = `${list.length} header${list.length === 1 ? '' : 's'}${marked ? `, ${marked} changed` : ''}`;
  return h('details', { class: 'headers', open: true }, h('summary', {}, said), h('dl', { 'aria-label': name }, rows));
}

function body(box, tools, record, found) {
  const json = record.body !== undefined;
  if (!json && record.text === undefined) {
    // The head came, the message's body was not kept. Where that has a reason of its own, it is said above.
    if (record.message && record.size && record.why === undefined) box.append(h('p', { class: 'none' }, 'Bodies are not kept (--tap-bodies off).'));
    return;
  }
  const text = () => (json ? write(record.body, 2) : record.text);
  const shown = h('div', { class: 'body' });
  const raw = () => h('pre', { tabindex: '0', 'aria-label': 'Raw text' }, withSecrets(visibleLines(text()), { lines: true }));
  const render = asTree => shown.replaceChildren(asTree ? tree(record.body, found) : raw());
  render(json);
  if (json) {
    const toggle = button('raw', 'Tree or raw text', () => {
      const asTree = toggle.getAttribute('aria-pressed') === 'true';
      toggle.setAttribute('aria-pressed', String(!asTree));
      render(asTree);
    });
    toggle.setAttribute('aria-pressed', 'false');
    tools.append(toggle);
  }
  tools.append(button('copy', 'Copy the message', ({ currentTarget }) => copy(text(), currentTarget)));
  box.append(shown);
  if (record.cut) box.append(h('p', { class: 'cut' }, `cut here: ${bytes(record.size)} crossed, the beginning was kept`));
}

const visibleLines = text => visible(text, { lines: true });
