// The pane beside the list: one exchange with both legs, or a whole connection; its sequence; its raw records.
import { arrange, changes, isPassed, origins } from './legs.js';
import { button, copy, h } from './dom.js';
import { card } from './cards.js';
import { drawSequence } from './lifelines.js';
import { duration, elapsed, FRONTS, moment, outcomeText } from './format.js';
import { menu } from './exports.js';
import { versions } from './connections.js';

// Records whose text is shown at once; an export has them all.
const MOST_RAW = 300;
const TABS = { legs: 'both legs', sequence: 'sequence', raw: 'raw' };

export class Detail {
  // { exchange } or { connection }, or nothing.
  subject;
  tab = 'legs';
  lines = [];
  #loading;
  #picked;

  constructor(box, app) {
    this.box = box;
    this.app = app;
    this.title = h('h2', {});
    this.note = h('p', { class: 'note', role: 'status' });
    this.content = h('div', { class: 'content', tabindex: '-1' });
    this.tabs = h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'View' });
    this.actions = h('div', { class: 'actions' });
    const close = button('✕', 'Close (Esc)', () => app.close(), { class: 'close', 'aria-label': 'Close' });
    box.append(h('header', {}, this.title, this.actions, close), this.tabs, this.note, this.content);
    new ResizeObserver(() => this.tab === 'sequence' && this.subject && this.#sequence()).observe(this.content);
  }

  get records() {
    return this.lines.map(({ record }) => record);
  }

  // Shows a subject. `tab` falls back to what a subject of its kind has.
  open(subject, tab = this.tab) {
    this.subject = subject;
    this.tab = subject.connection !== undefined && tab === 'legs' ? 'sequence' : tab;
    this.lines = [];
    this.#picked = undefined;
    this.box.hidden = false;
    this.content.replaceChildren(h('p', { class: 'none' }, 'loading'));
    this.#actions();
    this.heading();
    return this.refresh();
  }

  shut() {
    this.#loading?.abort();
    this.subject = undefined;
    this.box.hidden = true;
  }

  // Fetches what has come since.
  async refresh() {
    const { subject } = this;
    this.#loading?.abort();
    const { signal } = (this.#loading = new AbortController());
    try {
      const after = this.lines.at(-1)?.record.seq;
      const found = await this.app.api.records({ ...subject, after }, signal);
      if (subject !== this.subject || signal.aborted) return;
      if (found.length === 0 && this.lines.length > 0) return;
      this.lines = [...this.lines, ...found];
      this.show();
    } catch (error) {
      if (!signal.aborted) this.#say(`Its records could not be fetched: ${error.message}`);
    }
  }

  show() {
    this.heading();
    this.#tabs();
    this.#say('');
    if (this.lines.length === 0) {
      this.content.replaceChildren(h('p', { class: 'none' }, 'Its records are no longer stored: newer traffic has taken their place.'));
    } else if (this.tab === 'legs') this.#legs();
    else if (this.tab === 'sequence') this.#sequence();
    else this.#raw();
  }

  choose(tab) {
    if (!this.subject || (tab === 'legs' && this.subject.connection !== undefined)) return;
    this.tab = tab;
    this.app.remember();
    this.show();
  }

  // The title also tells how long an open exchange has waited, so it is set anew while the clock runs.
  heading() {
    const { store } = this.app;
    if (!this.subject) return;
    if (this.subject.connection !== undefined) {
      const row = store.connection(this.subject.connection);
      const client = row?.client ? `${row.client.name} ${row.client.version}` : '';
      const parts = [this.subject.connection, client, row ? `${FRONTS[row.front]} · ${versions(row)}` : ''];
      return this.title.replaceChildren(...title(parts));
    }
    const row = store.exchange(this.subject.exchange);
    if (!row) return this.title.replaceChildren(...title([`exchange ${this.subject.exchange}`]));
    const took = row.outcome === 'sent' ? '' : ` · ${duration(elapsed(row, this.app.now()))}`;
    this.title.replaceChildren(...title([row.method, row.name ?? '', `${outcomeText(row)}${took} · ${row.connection} · #${row.exchange}`]));
    this.title.className = row.outcome;
  }

  #say(text) {
    this.note.textContent = text;
  }

  #actions() {
    const { app, subject } = this;
    const one = subject.exchange !== undefined;
    const name = () => `mcp-ferry-${one ? `exchange-${subject.exchange}` : subject.connection}`;
    const lines = () => Promise.resolve(this.lines);
    const made = menu({ lines, about: () => app.about(), name, one, say: text => this.#say(text) });
    const parent = one && button('whole connection', 'The sequence of the whole connection', () => app.openConnection());
    this.actions.replaceChildren(...[parent, made].filter(Boolean));
  }

  #tabs() {
    const tabs = Object.entries(TABS).filter(([tab]) => tab !== 'legs' || this.subject.exchange !== undefined);
    this.tabs.replaceChildren(...tabs.map(([tab, text]) =>
      h('button', { type: 'button', role: 'tab', 'aria-selected': String(tab === this.tab), onclick: () => this.choose(tab) }, text)));
  }

  #legs() {
    const { records } = this;
    const from = origins(records);
    const { marks, count } = changes(records, from);
    const begin = moment(records[0].time);
    const front = this.app.store.connection(records[0].connection)?.front;
    const passed = isPassed(records);
    const columns = h('div', { class: `legs${passed ? ' passed' : ''}` });
    if (passed) columns.append(h('h3', { class: 'through' }, 'client ↔ server, passed through unchanged'));
    else columns.append(h('h3', { class: 'client' }, 'client ↔ ferry'), h('h3', { class: 'server' }, 'ferry ↔ server'));
    for (const { record, leg, row } of arrange(records, from)) {
      const element = card(record, { begin, found: marks.get(record.seq), front });
      element.classList.add(leg);
      // The headings stand in the first row.
      element.style.gridRow = String(row + 1);
      columns.append(element);
    }
    const top = this.content.scrollTop;
    this.content.replaceChildren(...[passed ? undefined : legend(count), columns].filter(Boolean));
    this.content.scrollTop = top;
  }

  #sequence() {
    const { records } = this;
    if (records.length === 0) return;
    const drawing = h('div', { class: 'drawing' });
    const picked = h('div', { class: 'picked' });
    const top = this.content.scrollTop;
    this.content.replaceChildren(drawing, picked);
    const { marks } = changes(records);
    const pick = record => {
      this.#picked = record.seq;
      for (const element of drawing.querySelectorAll('g.arrow')) {
        element.classList.toggle('selected', Number(element.dataset.seq) === record.seq);
      }
      const made = card(record, { begin: moment(records[0].time), found: marks.get(record.seq), wordy: true });
      const away = record.exchange !== undefined && record.exchange !== this.subject.exchange;
      const go = away && button(`exchange ${record.exchange}`, 'Open the exchange', () => this.app.openExchange(record.exchange, 'legs'));
      const shut = button('✕', 'Close the message', () => picked.replaceChildren(), { 'aria-label': 'Close the message' });
      picked.replaceChildren(h('p', { class: 'bar' }, ...[go, shut].filter(Boolean)), made);
      drawing.querySelector('g.selected')?.scrollIntoView({ block: 'nearest' });
    };
    drawSequence(drawing, records, { open: pick, selected: this.#picked });
    const known = records.find(record => record.seq === this.#picked);
    if (known) pick(known);
    this.content.scrollTop = top;
  }

  #raw() {
    const text = this.lines.map(({ line }) => line).join('\n');
    const taker = button('copy all', 'Copy the records', ({ currentTarget }) => copy(text, currentTarget));
    const shown = this.lines.slice(-MOST_RAW).map(({ line }) => h('pre', { class: 'record-line' }, line));
    const count = shown.length < this.lines.length ? `The last ${shown.length} of ${this.lines.length}` : this.lines.length;
    this.content.replaceChildren(h('p', { class: 'bar' }, `${count} records, one JSON object a line `, taker), ...shown);
  }
}

const title = ([strong, plain, faint]) =>
  [h('b', {}, strong), plain && h('span', {}, plain), faint && h('small', {}, faint)].filter(Boolean);

function legend(count) {
  const said = count === 0 ? 'The ferry changed nothing in the messages.' : `The ferry changed ${count} place${count === 1 ? '' : 's'} in the messages:`;
  const sign = (kind, text) => h('span', { class: `sign ${kind}` }, text);
  return h('p', { class: 'legend' }, said, sign('added', 'added'), sign('removed', 'not sent on'), sign('changed', 'changed'), sign('secret', 'redacted'));
}
