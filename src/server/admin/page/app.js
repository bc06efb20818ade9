// The tap itself: holds what came, decides what is shown, and tells the parts of the page about it, once a frame.
import { Api, supply } from './api.js';
import { Bar } from './bar.js';
import { Charts } from './charts.js';
import { Connections } from './connections.js';
import { Detail } from './detail.js';
import { List } from './list.js';
import { Store, Waiting } from './store.js';
import { byId, setAttribute, setText } from './dom.js';
import { fromQuery, isFiltering, matcher, NO_FILTER, toQuery, withWords, words } from './filter.js';
import { keyboard } from './keys.js';
import { menu, shownLines } from './exports.js';
import { STEP } from './series.js';

const SECOND = 1000;

export class App {
  store = new Store();
  waiting = new Waiting();
  paused = false;
  state = {};
  // Milliseconds that the server's clock is ahead of this one's.
  #ahead = 0;
  #frame;
  #shown = [];
  #found;
  #missed = 0;
  // When the tap last said that it could not record all that crossed, and the timer of asking how much that is.
  #lossAt = -Infinity;
  #counting;
  #listening = new AbortController();
  #asked;
  #stop;
  #refreshing;
  #noticed;
  // What was last said of the stream: its state, and more about it.
  #said = ['connecting', ''];

  constructor(token, { denied }) {
    this.api = new Api(token);
    const asked = fromQuery(location.search);
    this.filter = asked.filter;
    this.#asked = asked;
    for (const id of ['list', 'detail', 'charts', 'fronts', 'connection-list', 'export']) byId(id).replaceChildren();
    const now = () => this.now();
    this.list = new List(byId('list'), { now, choose: row => this.openExchange(row.exchange), moved: () => this.#newest() });
    this.detail = new Detail(byId('detail'), this);
    this.charts = new Charts(byId('charts'));
    this.connections = new Connections({
      ...{ list: byId('connection-list'), summary: byId('fronts'), more: byId('connections-more'), now },
      choose: label => this.setFilter({ connection: this.filter.connection === label ? '' : label }),
      chooseFront: front => this.setFilter({ front: this.filter.front === front ? '' : front }),
    });
    const { signal } = this.#listening;
    this.bar = new Bar(this, signal);
    keyboard(this, signal);
    byId('pause').addEventListener('click', () => this.pause(), { signal });
    byId('clear').addEventListener('click', () => this.clear(), { signal });
    byId('newest').addEventListener('click', () => this.toEnd(), { signal });
    byId('export').append(menu({
      ...{ lines: () => shownLines(this.api, this.filter, this.#shown), about: () => this.about() },
      ...{ name: () => 'mcp-ferry', one: false, say: text => this.notice(text) },
    }));
    const ticking = setInterval(() => this.#tick(), SECOND);
    signal.addEventListener('abort', () => clearInterval(ticking));
    this.#stop = supply(this.api, {
      load: (rows, state) => this.#load(rows, state),
      take: (event, data) => this.#take(event, data),
      say: (state, text) => (state === 'denied' ? denied() : this.#status(state, text)),
    });
    if (this.filter.q) void this.searchBodies();
  }

  end() {
    this.#stop();
    this.#listening.abort();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#counting);
    this.detail.shut();
  }

  now = () => Date.now() + this.#ahead;
  about = () => ({ upstream: this.state.upstream, version: this.state.version });
  get shown() {
    return this.#shown;
  }

  // --- What comes.

  #load(rows, state) {
    this.#ahead = state.now - Date.now();
    const restarted = this.state.started !== undefined && this.state.started !== state.started;
    this.state = state;
    setText(byId('upstream'), state.upstream);
    if (restarted) {
      this.close();
      this.notice('The ferry was restarted; what was there before is gone.');
    } else if (this.#missed === 0) this.notice('');
    // What waited is in the rows as well, or has been cleared.
    this.waiting.take();
    this.bar.paused(0);
    this.store.load(rows);
    this.bar.suggest(this.store.rows);
    // What is asked for can only be shown among rows that are there.
    this.refilter();
    const asked = this.#asked;
    this.#asked = undefined;
    if (asked?.exchange !== undefined) this.openExchange(asked.exchange, asked.pane || 'legs');
    else if (asked?.pane && this.filter.connection) this.openConnection(asked.pane);
    else if (this.detail.subject) void this.detail.refresh();
    this.#tick();
  }

  #take(event, data) {
    if (event === 'exchange' || event === 'connection') {
      this.waiting.put(event, data);
      this.#schedule();
    } else if (event === 'record') this.#record(data);
    else if (event === 'missed') {
      this.#missed += data.count;
      const changes = this.#missed === 1 ? 'a change' : `${this.#missed} changes`;
      this.notice(`This page was too slow and missed ${changes}; the lists are loaded anew.`);
    }
  }

  // A busy tap says often that it could not record all; how much it was is asked for once a second.
  #loss() {
    this.#lossAt = this.now();
    this.#counting ??= setTimeout(async () => {
      this.#counting = undefined;
      try {
        const { missed } = await this.api.state();
        this.state = { ...this.state, missed };
        this.bar.show();
      } catch {
        // That the ferry is not reached is said by the stream.
      }
    }, SECOND);
  }

  // What is open grows while it is looked at; fetched at most once in a quarter of a second.
  #record(data) {
    if (data.kind === 'missed') this.#loss();
    const { subject } = this.detail;
    if (!subject || this.paused || this.#refreshing) return;
    if (subject.exchange !== undefined ? subject.exchange !== data.exchange : subject.connection !== data.connection) return;
    this.#refreshing = setTimeout(() => {
      this.#refreshing = undefined;
      if (this.detail.subject) void this.detail.refresh();
    }, 250);
  }

  #schedule() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = undefined;
      this.#flush();
    });
  }

  // Puts on the page what came since the last frame.
  #flush() {
    if (this.paused) return this.bar.paused(this.waiting.exchanges);
    const { added, altered, removed } = this.store.apply(this.waiting.take());
    const matches = this.#matcher();
    // Whether a row that was there before now belongs elsewhere can only be told from all of them.
    const flips = isFiltering(this.filter) && altered.length > 0;
    if (removed > 0 || flips) this.#shown = this.store.rows.filter(matches);
    else for (const row of added) if (matches(row)) this.#shown.push(row);
    this.#render();
  }

  #matcher = () => matcher(this.filter, label => this.store.connection(label), this.now, this.#found);

  refilter() {
    this.#shown = this.store.rows.filter(this.#matcher());
    this.#render();
  }

  #render() {
    this.list.show(this.#shown);
    this.connections.show(this.store.connections, this.filter);
    this.bar.show();
    this.#newest();
  }

  #newest() {
    byId('newest').hidden = this.list.follow || this.#shown.length === 0;
  }

  // Clocks run and charts move without anything happening.
  #tick() {
    this.charts.show(this.store.rows, this.now(), this.now() - this.#lossAt < 3 * STEP);
    this.bar.suggest(this.store.rows);
    if (this.paused) return;
    if (this.filter.slow > 0) this.refilter();
    else {
      this.list.draw();
      this.connections.show(this.store.connections, this.filter);
    }
    this.detail.heading();
  }

  #status(state, text) {
    this.#said = [state, text];
    this.#showStatus();
  }

  // Whether the stream is there, and whether the reader lets it in.
  #showStatus() {
    const [state, text] = this.#said;
    const shown = this.paused && state === 'live' ? 'paused' : state;
    byId('status').className = shown;
    byId('status').dataset.state = state;
    setText(byId('status-text'), text ? `${shown}: ${text}` : shown);
    setAttribute(byId('status'), 'title', text);
  }

  notice(text) {
    clearTimeout(this.#noticed);
    byId('notice').hidden = !text;
    setText(byId('notice'), text);
    if (text) this.#noticed = setTimeout(() => ((this.#missed = 0), this.notice('')), 10_000);
  }

  // --- What the reader does.

  setFilter(change) {
    const before = this.filter.q;
    this.filter = { ...this.filter, ...change };
    if (this.filter.q !== before) this.#found = undefined;
    this.remember();
    this.refilter();
    // What is selected stays in sight.
    const index = this.#shown.findIndex(row => row.exchange === this.list.selected);
    if (index >= 0 && this.detail.subject) this.list.reveal(index);
  }

  reset() {
    this.setFilter({ ...NO_FILTER });
    this.bar.reset();
  }

  // Looks for the words in all that is stored, not only in the lists.
  async searchBodies() {
    const search = words(this.filter.q);
    if (search.length === 0) return;
    try {
      this.#found = withWords(await this.api.records(), search);
      this.refilter();
    } catch (error) {
      this.notice(`The bodies could not be searched: ${error.message}`);
    }
  }

  // What is seen is in the address, so that it can be reloaded and passed on; without the token.
  remember() {
    const { subject, tab } = this.detail;
    const pane = subject && (tab !== 'legs' || subject.connection !== undefined) ? tab : '';
    history.replaceState(null, '', location.pathname + toQuery({ filter: this.filter, exchange: subject?.exchange, pane }));
  }

  openExchange(exchange, tab) {
    this.list.selected = exchange;
    void this.detail.open({ exchange }, tab);
    document.body.classList.add('open');
    this.remember();
    this.list.draw();
    // The pane takes room from the list; only then is it known what is in sight.
    requestAnimationFrame(() => {
      const index = this.#shown.findIndex(row => row.exchange === exchange);
      if (index >= 0) this.list.reveal(index);
    });
  }

  // The whole of the selected connection, or of the one that the open exchange belongs to.
  openConnection(tab = 'sequence') {
    const label = this.filter.connection || this.store.exchange(this.detail.subject?.exchange)?.connection;
    if (!label) return;
    this.filter = { ...this.filter, connection: label };
    void this.detail.open({ connection: label }, tab);
    document.body.classList.add('open');
    this.list.selected = undefined;
    this.remember();
    this.refilter();
  }

  close() {
    this.detail.shut();
    document.body.classList.remove('open');
    this.remember();
    byId('list').focus({ preventScroll: true });
  }

  // Goes to the next exchange, or by -1 to the previous one.
  step(by) {
    if (this.#shown.length === 0) return;
    const at = this.#shown.findIndex(row => row.exchange === this.list.selected);
    const index = at < 0 ? (by > 0 ? 0 : this.#shown.length - 1) : Math.max(0, Math.min(this.#shown.length - 1, at + by));
    const { exchange } = this.#shown[index];
    if (this.detail.subject) return this.openExchange(exchange);
    this.list.selected = exchange;
    this.list.reveal(index);
  }

  toEnd() {
    this.list.follow = true;
    this.list.show(this.#shown);
    this.#newest();
  }

  toStart() {
    this.list.follow = false;
    this.list.reveal(0);
    this.#newest();
  }

  pause() {
    this.paused = !this.paused;
    this.#showStatus();
    this.bar.paused(this.waiting.exchanges);
    if (!this.paused) {
      this.#flush();
      if (this.detail.subject) void this.detail.refresh();
    }
  }

  // The stream tells this page, like all others, that the lists are to be loaded anew.
  async clear() {
    try {
      await this.api.clear();
    } catch (error) {
      this.notice(`Nothing was cleared: ${error.message}`);
    }
  }
}
