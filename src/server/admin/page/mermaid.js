// A Mermaid sequence diagram of records. Pure.
import { visible } from './format.js';
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
    const text = escapeText(label(record));
    if (!record.from || !record.to) lines.push(`  Note over ${record.kind === 'missed' ? 'ferry' : 'client'}: ${text}`);
    else lines.push(`  ${record.from}${arrow(record)}${record.to}: ${text}`);
  }
  return `${lines.join('\n')}\n`;
}

function arrow({ kind, message, why }) {
  if (kind === 'ended' && why !== undefined) return '--x';
  if (kind !== 'message') return '-->>';
  return message && (message.type === 'result' || message.type === 'error') ? '-->>' : '->>';
}
