// The view of one exchange with both legs side by side. It grows while it is read: a card stays the same element as long as it
// says the same, so that what was folded, focused or selected stays so.
import { arrange, changes, isPassed, legOf, marksText, origins, verdict } from './legs.js';
import { card } from './cards.js';
import { h } from './dom.js';
import { moment } from './format.js';

export class BothLegs {
  // By sequence number: a card's element, and what decides how it looks.
  #cards = new Map();
  #way;

  // `front()` tells how the client came, once that is known.
  constructor(box, { front }) {
    this.front = front;
    this.legend = h('p', { class: 'legend' });
    this.columns = h('div', { class: 'legs' });
    box.replaceChildren(this.legend, this.columns);
  }

  show(lines) {
    const records = lines.map(({ record }) => record);
    const from = origins(records);
    const all = changes(records, from);
    this.#head(wayOf(records), verdict(records, from, all));
    const front = this.front(records[0].connection);
    const begin = moment(records[0].time);
    for (const { record, leg, row } of arrange(records, from)) {
      const found = all.marks.get(record.seq);
      const looks = `${front} ${marksText(found)}`;
      const known = this.#cards.get(record.seq);
      if (known?.looks === looks) continue;
      const element = card(record, { begin, found, front });
      element.classList.add(leg);
      // The headings stand in the first row.
      element.style.gridRow = String(row + 1);
      if (known) known.element.replaceWith(element);
      else this.columns.append(element);
      this.#cards.set(record.seq, { element, looks });
    }
  }

  #head(way, said) {
    if (way === 'translated') this.legend.replaceChildren(...legend(said));
    this.legend.hidden = way !== 'translated';
    if (way === this.#way) return;
    this.#way = way;
    this.columns.classList.toggle('passed', way !== 'translated');
    for (const heading of this.columns.querySelectorAll('h3')) heading.remove();
    this.columns.prepend(...HEADINGS[way].map(([leg, text]) => h('h3', { class: leg }, text)));
  }
}

const HEADINGS = {
  translated: [['client', 'client ↔ ferry'], ['server', 'ferry ↔ server']],
  passed: [['through', 'client ↔ server, passed through unchanged']],
  refused: [['through', 'client → ferry, refused: nothing of it went to the server']],
};

// Two columns, or one of what there is only one leg of.
function wayOf(records) {
  if (isPassed(records)) return 'passed';
  const refused = records.some(record => record.kind === 'refused') && records.every(record => legOf(record) !== 'server');
  return refused ? 'refused' : 'translated';
}

function legend(said) {
  const sign = (kind, text) => h('span', { class: `sign ${kind}` }, text);
  return [said, sign('added', 'added'), sign('removed', 'not sent on'), sign('changed', 'changed'), sign('secret', 'redacted')];
}
