// The view of one exchange with both legs side by side. It grows while it is read: a card stays the same element as long as it
// says the same, so that what was folded, focused or selected stays so.
import { arrange, changes, isPassed, marksText, origins } from './legs.js';
import { card } from './cards.js';
import { h } from './dom.js';
import { moment } from './format.js';

export class BothLegs {
  // By sequence number: a card's element, and what decides how it looks.
  #cards = new Map();
  #passed;

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
    const { marks, count } = changes(records, from);
    this.#head(isPassed(records), count);
    const front = this.front(records[0].connection);
    const begin = moment(records[0].time);
    for (const { record, leg, row } of arrange(records, from)) {
      const found = marks.get(record.seq);
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

  #head(passed, count) {
    if (!passed) this.legend.replaceChildren(...legend(count));
    this.legend.hidden = passed;
    if (passed === this.#passed) return;
    this.#passed = passed;
    this.columns.classList.toggle('passed', passed);
    for (const heading of this.columns.querySelectorAll('h3')) heading.remove();
    if (passed) this.columns.prepend(h('h3', { class: 'through' }, 'client ↔ server, passed through unchanged'));
    else this.columns.prepend(h('h3', { class: 'client' }, 'client ↔ ferry'), h('h3', { class: 'server' }, 'ferry ↔ server'));
  }
}

function legend(count) {
  const said = count === 0 ? 'The ferry changed nothing in the messages.' : `The ferry changed ${count} place${count === 1 ? '' : 's'} in the messages:`;
  const sign = (kind, text) => h('span', { class: `sign ${kind}` }, text);
  return [said, sign('added', 'added'), sign('removed', 'not sent on'), sign('changed', 'changed'), sign('secret', 'redacted')];
}
