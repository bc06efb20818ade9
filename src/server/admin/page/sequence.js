// The sequence view's geometry: records to arrows between three lifelines on an axis of time. Pure.
import { duration, moment } from './format.js';
import { isFault, partiesOf } from './legs.js';

export const PARTIES = ['client', 'ferry', 'server'];
// So many arrows are drawn at once; of more, a window is shown.
export const MOST = 400;

const LINE = 26;
const HEAD = 14;

// The axis is not linear: every arrow has a line of its own, and a pause adds up to three lines by its logarithm, because
// what matters is that there was one and how long it was.
function gap(ms) {
  if (ms < 5) return 0;
  return Math.min(3 * LINE, LINE * 0.6 * Math.log10(ms / 5 + 1));
}

// What an arrow says, in a few words.
export function label(record) {
  if (record.kind === 'status') return `${record.status ?? ''}`;
  if (record.kind === 'ended') return record.why ? `ended: ${record.why}` : 'end';
  if (record.kind === 'opened') return record.http ? `${record.http.method} ${path(record.http.target)}` : 'opened';
  if (record.kind === 'closed') return record.why ? `closed: ${record.why}` : 'closed';
  if (record.kind === 'refused') return `refused: ${record.why ?? record.status ?? ''}`;
  if (record.kind === 'missed') return `${record.count} lost`;
  if (record.kind === 'unread') return 'a record that cannot be read';
  const { message } = record;
  const purpose = record.purpose ? `${record.purpose}: ` : '';
  if (!message) return `${purpose}${record.http?.method ?? ''} ${path(record.http?.target)}`.trim();
  return purpose + messageLabel(record);
}

const path = target => (target ?? '').split('?')[0];

function messageLabel({ message, cut }) {
  // `#9` is an exchange.
  const id = message.id === undefined ? '' : ` id ${message.id}`;
  if (message.type === 'result') return `${message.tool_error ? 'result (tool error)' : 'result'}${id}`;
  if (message.type === 'error') return `error ${message.code ?? ''}${id}`;
  if (message.type === 'request' || message.type === 'notification') {
    return `${message.method ?? message.type}${message.name ? ` ${message.name}` : ''}${id}`;
  }
  // Of what was cut too early nobody can tell what it is.
  if (message.type === 'unknown') return cut ? 'cut' : 'not JSON-RPC';
  return message.type;
}

// The time since the first record, exact to the millisecond where that is short enough to read.
export function since(ms) {
  if (ms < 1000 || ms >= 3_600_000) return duration(ms);
  const seconds = Math.floor(ms) / 1000;
  if (seconds < 60) return `${seconds.toFixed(3)} s`;
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(3).padStart(6, '0')}`;
}

// How an arrow looks: what it carries, and whether it went badly.
function look(record) {
  const thin = record.kind !== 'message' || !record.message;
  return `${thin ? 'thin' : record.message.type}${isFault(record) ? ' bad' : ''}${record.purpose ? ' own' : ''}`;
}

// Lays out the records from `start` to before `end`. `width` is the whole drawing's, `margin` what the times take at the left.
// Gives { height, lifelines: [{ party, x }], items: [{ record, y, parties, from, to, text, look, offset, pause }] }:
// who the parties are, x values of an arrow's ends (from equals to for what is noted on one lifeline), milliseconds since the first of all
// records, whichever are laid out, and the pause before, where it is worth telling.
export function layout(records, width, margin, { start = 0, end = records.length } = {}) {
  const inner = width - margin;
  const xs = (inner < 500 ? [0.1, 0.5, 0.9] : [0.12, 0.5, 0.88]).map(share => Math.round(margin + inner * share));
  const x = Object.fromEntries(PARTIES.map((party, i) => [party, xs[i]]));
  const begin = records.length > 0 ? moment(records[0].time) : 0;
  let y = HEAD;
  let before = start > 0 ? moment(records[start - 1].time) : begin;
  const items = records.slice(start, end).map(record => {
    const at = moment(record.time);
    const pause = Math.max(0, at - before);
    y += LINE + gap(pause);
    before = at;
    const { from, to } = partiesOf(record);
    const side = from ?? 'client';
    return {
      ...{ record, y, parties: { from, to }, from: x[side] ?? x.ferry, to: x[to ?? side] ?? x.ferry },
      ...{ text: label(record), look: look(record), offset: at - begin },
      pause: pause >= 100 ? pause : undefined,
    };
  });
  return { height: y + LINE, lifelines: PARTIES.map(party => ({ party, x: x[party] })), items };
}
