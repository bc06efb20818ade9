// The view of a sequence: the drawing, and below it the record of the arrow that was picked. What is picked stays as it is
// while the sequence grows.
import { button, h } from './dom.js';
import { card } from './cards.js';
import { changes, marksText } from './legs.js';
import { Lifelines } from './lifelines.js';
import { moment } from './format.js';

export class Arrows {
  #records = [];
  #picked;
  // What decides how the picked card looks.
  #looks;

  // `subject` is what is looked at; `front(label)` tells how a client came; `openExchange(number)` goes elsewhere.
  constructor(box, { subject, front, openExchange }) {
    Object.assign(this, { subject, front, openExchange });
    this.lifelines = new Lifelines(h('div', { class: 'drawing' }), record => this.#pick(record));
    this.below = h('div', { class: 'picked' });
    box.replaceChildren(this.lifelines.box, this.below);
  }

  show(lines) {
    this.#records = lines.map(({ record }) => record);
    this.resized();
    this.#card();
  }

  resized() {
    if (this.#records.length > 0) this.lifelines.show(this.#records, this.#picked?.seq);
  }

  #pick(record) {
    this.#picked = record;
    this.resized();
    this.#card();
    this.lifelines.box.querySelector('g.selected')?.scrollIntoView({ block: 'nearest' });
  }

  #shut() {
    this.#picked = this.#looks = undefined;
    this.below.replaceChildren();
    this.resized();
  }

  #card() {
    const record = this.#picked;
    if (!record) return;
    const found = changes(this.#records).marks.get(record.seq);
    const front = this.front(record.connection);
    const looks = `${record.seq} ${front} ${marksText(found)}`;
    if (looks === this.#looks) return;
    this.#looks = looks;
    const away = record.exchange !== undefined && record.exchange !== this.subject.exchange;
    const go = away && button(`exchange ${record.exchange}`, 'Open the exchange', () => this.openExchange(record.exchange));
    const shut = button('✕', 'Close the message', () => this.#shut(), { 'aria-label': 'Close the message' });
    const made = card(record, { begin: moment(this.#records[0].time), found, front, wordy: true });
    this.below.replaceChildren(h('p', { class: 'bar' }, ...[go, shut].filter(Boolean)), made);
  }
}
