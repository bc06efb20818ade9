// The pane beside the list: one exchange with both legs, or a whole connection; its sequence; its raw records. It fetches the
// records and hands them to the view that is chosen, which adds what is new and lets the rest stand.
import { Arrows } from './arrows.js';
import { BothLegs } from './bothlegs.js';
import { RawLines } from './rawlines.js';
import { button, h, setText } from './dom.js';
import { duration, elapsed, FRONTS, outcomeText } from './format.js';
import { menu } from './exports.js';
import { versions } from './connections.js';

const TABS = { legs: 'both legs', sequence: 'sequence', raw: 'raw' };
const VIEWS = { legs: BothLegs, sequence: Arrows, raw: RawLines };

export class Detail {
  // { exchange } or { connection }, or nothing.
  subject;
  tab = 'legs';
  lines = [];
  #loading;
  // What shows the records in the chosen way, while there are any.
  #view;

  constructor(box, app) {
    this.box = box;
    this.app = app;
    // Each part is set by itself, so that a clock in one does not undo a selection in another.
    this.parts = ['b', 'span', 'small'].map(tag => h(tag, {}));
    this.title = h('h2', {}, this.parts);
    this.note = h('p', { class: 'note', role: 'status' });
    this.content = h('div', { class: 'content', tabindex: '-1' });
    this.tabs = h('div', { class: 'tabs', role: 'tablist', 'aria-label': 'View' });
    this.actions = h('div', { class: 'actions' });
    const close = button('✕', 'Close (Esc)', () => app.close(), { class: 'close', 'aria-label': 'Close' });
    box.append(h('header', {}, this.title, this.actions, close), this.tabs, this.note, this.content);
    new ResizeObserver(() => this.#view?.resized?.()).observe(this.content);
  }

  // Shows a subject. `tab` falls back to what a subject of its kind has.
  open(subject, tab = this.tab) {
    this.subject = subject;
    this.tab = subject.connection !== undefined && tab === 'legs' ? 'sequence' : tab;
    this.lines = [];
    this.#view = undefined;
    this.box.hidden = false;
    this.content.replaceChildren(h('p', { class: 'none' }, 'loading'));
    this.#actions();
    this.heading();
    return this.refresh();
  }

  shut() {
    this.#loading?.abort();
    this.subject = this.#view = undefined;
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
      this.content.replaceChildren(h('p', { class: 'none' }, this.#nothing()));
      return;
    }
    this.#view ??= new VIEWS[this.tab](this.content, {
      subject: this.subject,
      front: label => this.app.store.connection(label)?.front,
      openExchange: number => this.app.openExchange(number, 'legs'),
    });
    this.#view.show(this.lines);
  }

  // Why there is nothing to show. Of what no list has, it is not known whether it ever was.
  #nothing() {
    const { exchange, connection } = this.subject;
    const { store } = this.app;
    const known = exchange !== undefined ? store.exchange(exchange) : store.connection(connection);
    const what = known ? 'Its' : `There is no such ${exchange !== undefined ? 'exchange' : 'connection'}, or its`;
    return `${what} records are no longer stored: newer traffic has taken their place.`;
  }

  choose(tab) {
    if (!this.subject || (tab === 'legs' && this.subject.connection !== undefined)) return;
    if (tab !== this.tab) this.#view = undefined;
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
      return this.#title('', parts);
    }
    const row = store.exchange(this.subject.exchange);
    if (!row) return this.#title('', [`exchange ${this.subject.exchange}`]);
    const took = row.outcome === 'sent' || row.outcome === 'refused' ? undefined : duration(elapsed(row, this.app.now()));
    const faint = [outcomeText(row), took, row.connection, `#${row.exchange}`].filter(text => text !== undefined);
    this.#title(row.outcome, [row.method ?? row.type, row.name, faint.join(' · ')]);
  }

  #title(kind, texts) {
    this.title.className = kind;
    this.parts.forEach((part, i) => {
      setText(part, texts[i]);
      part.hidden = !texts[i];
    });
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
    // A request that was refused belongs to none, as far as the ferry can tell.
    const within = one && app.store.exchange(subject.exchange)?.connection !== undefined;
    const parent = within && button('whole connection', 'The sequence of the whole connection', () => app.openConnection());
    this.actions.replaceChildren(...[parent, made].filter(Boolean));
  }

  #tabs() {
    const wanted = Object.keys(TABS).filter(tab => tab !== 'legs' || this.subject.exchange !== undefined);
    // They stay while they are the same, and keep the focus.
    if ([...this.tabs.children].map(button => button.dataset.tab).join() !== wanted.join()) {
      const attributes = tab => ({ type: 'button', role: 'tab', dataset: { tab }, onclick: () => this.choose(tab) });
      this.tabs.replaceChildren(...wanted.map(tab => h('button', attributes(tab), TABS[tab])));
    }
    for (const button of this.tabs.children) button.setAttribute('aria-selected', String(button.dataset.tab === this.tab));
  }
}
