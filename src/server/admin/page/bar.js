// The bar above the list: the filter's fields, the counts, and what the pause button says.
import { OUTCOMES } from './format.js';
import { LIMIT } from './store.js';
import { atLeast, isFiltering } from './filter.js';
import { byId, h, setAttribute, setText } from './dom.js';

// Names offered for a field, and milliseconds between looks at what there is to offer.
const OFFERED = 50;
const LOOK = 3000;

export class Bar {
  #looked = 0;

  constructor(app, signal) {
    this.app = app;
    const on = (id, event, act) => byId(id).addEventListener(event, act, { signal });
    for (const id of ['q', 'method', 'name']) on(id, 'input', ({ target }) => app.setFilter({ [id]: target.value }));
    on('outcome', 'change', ({ target }) => app.setFilter({ outcome: target.value }));
    on('errors', 'change', ({ target }) => app.setFilter({ errors: target.checked }));
    const slow = () => app.setFilter({ slow: byId('slow-on').checked ? atLeast(byId('slow').value) : undefined });
    on('slow-on', 'change', slow);
    on('slow', 'input', slow);
    on('filters', 'submit', event => event.preventDefault());
    on('q', 'keydown', event => event.key === 'Enter' && app.searchBodies());
    on('connection-chip', 'click', () => app.setFilter({ connection: '' }));
    on('sequence', 'click', () => app.openConnection());
    on('reset', 'click', () => app.reset());
    const outcomes = OUTCOMES.map(outcome => h('option', { value: outcome }, outcome.replace('-', ' ')));
    byId('outcome').replaceChildren(h('option', { value: '' }, 'any outcome'), ...outcomes);
    for (const place of document.querySelectorAll('#places button')) {
      place.addEventListener('click', () => this.place(place.dataset.place), { signal });
    }
    this.place('exchanges');
  }

  // On a narrow screen one list is seen at a time.
  place(name) {
    document.body.dataset.place = name;
    for (const button of document.querySelectorAll('#places button')) {
      setAttribute(button, 'aria-pressed', String(button.dataset.place === name));
    }
  }

  // A duration stays in its field while it is switched off, but not when all filters go.
  reset() {
    byId('slow').value = byId('slow').defaultValue;
  }

  // Brings the fields to what the filter says, and the counts to what there is.
  show() {
    const { filter, store, shown, state } = this.app;
    for (const id of ['q', 'method', 'name', 'outcome']) {
      if (byId(id).value !== filter[id] && document.activeElement !== byId(id)) byId(id).value = filter[id];
      byId(id).classList.toggle('set', filter[id] !== '');
    }
    byId('errors').checked = filter.errors;
    byId('slow-on').checked = filter.slow !== undefined;
    if (filter.slow !== undefined && document.activeElement !== byId('slow')) byId('slow').value = filter.slow;
    const chip = byId('connection-chip');
    chip.hidden = byId('sequence').hidden = filter.connection === '';
    setText(chip, `${filter.connection} ✕`);
    setAttribute(chip, 'aria-label', `Only connection ${filter.connection}: remove`);
    const filtering = isFiltering(filter);
    byId('reset').hidden = !filtering;
    const all = store.rows.length.toLocaleString('en');
    const lost = (state.missed ?? 0).toLocaleString('en');
    const besides = lost === '0' ? '' : `, ${lost} not recorded`;
    setText(byId('count'), (filtering ? `${shown.length.toLocaleString('en')} of ${all}` : `${all} exchange${all === '1' ? '' : 's'}`) + besides);
    const dropped = `The page holds ${LIMIT.toLocaleString('en')} exchanges; ${store.dropped} older ones were let go.`;
    const why = state.complete
      ? 'The ferry had no time to record all that crossed'
      : 'More crossed than is recorded for a page (with --tap-file the ferry records all it has time for)';
    const unrecorded = `${why}: ${lost} requests or parts of them are not shown.`;
    const said = [store.dropped > 0 && dropped, besides && unrecorded];
    setAttribute(byId('count'), 'title', said.filter(Boolean).join('\n'));
    byId('empty').hidden = shown.length > 0;
    setText(byId('empty'), filtering && store.rows.length > 0 ? 'Nothing matches the filter.' : 'Nothing has crossed yet. Point a client at the ferry, and it appears here.');
    const connections = [...store.connections.values()].filter(row => row.closed === undefined).length;
    const [first, second] = document.querySelectorAll('#places button');
    setText(first, `connections ${connections}`);
    setText(second, `exchanges ${shown.length}`);
  }

  // Methods and names for the fields, from the newest rows.
  suggest(rows) {
    if (performance.now() - this.#looked < LOOK && this.#looked > 0) return;
    this.#looked = performance.now();
    const recent = rows.slice(-2000);
    for (const [id, key] of [['methods', 'method'], ['names', 'name']]) {
      const values = [...new Set(recent.map(row => row[key]).filter(Boolean))].sort().slice(0, OFFERED);
      const list = byId(id);
      if (values.join('\n') === [...list.children].map(option => option.value).join('\n')) continue;
      list.replaceChildren(...values.map(value => h('option', { value })));
    }
  }

  paused(waiting) {
    const { paused } = this.app;
    const button = byId('pause');
    button.setAttribute('aria-pressed', String(paused));
    setText(button, paused ? `go on${waiting > 0 ? ` (${waiting} waiting)` : ''}` : 'pause');
  }
}
