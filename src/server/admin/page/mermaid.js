// A Mermaid sequence diagram of records. Pure.
import { visible } from './format.js';
import { isFault, partiesOf } from './legs.js';
import { label } from './sequence.js';

// Longer labels make a diagram that nobody can read.
const LONGEST = 80;

// Mermaid takes `#code;` for a character. Everything but plain words is written so: nothing that a message says can be taken
// for the diagram's own language, for markup, or for a comment.
export function escapeText(text) {
  const short = [...visible(text)].slice(0, LONGEST).join('');
  return short.replace(/[^A-Za-z0-9 _./,()=+-]/gu, character => `#${character.codePointAt(0)};`).trim() || '#32;';
}

export function mermaid(records) {
  const lines = ['sequenceDiagram', '  participant client', '  participant ferry', '  participant server'];
  for (const record of records) {
    const { from, to } = partiesOf(record);
    const call = record.call === undefined ? '' : ` (call ${record.call})`;
    const text = escapeText(label(record)) + call;
    if (!from || !to) lines.push(`  Note over ${record.kind === 'missed' ? 'ferry' : 'client'}: ${text}`);
    else lines.push(`  ${from}${arrow(record)}${to}: ${text}`);
  }
  return `${lines.join('\n')}\n`;
}

function arrow(record) {
  const { kind, message } = record;
  if (kind === 'ended' && isFault(record)) return '--x';
  if (kind !== 'message') return '-->>';
  return message && (message.type === 'result' || message.type === 'error') ? '-->>' : '->>';
}
