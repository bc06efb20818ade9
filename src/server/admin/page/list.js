// The list of exchanges: only the rows that can be seen are in the page, whatever the number of all. It follows the newest row
// while its end is in sight.
import { bytes, clock, duration, elapsed, isBad, isHung, outcomeText } from './format.js';
import { h, setAttribute, setText } from './dom.js';

export const HEIGHT = 28;
// Rows above and below what is seen.
const SPARE = 8;
// The latency bar's ends, in milliseconds; between them it goes by the logarithm.
const [SHORTEST, LONGEST] = [0.5, 60_000];
const CELLS = ['time', 'way', 'method', 'name', 'conn', 'outcome', 'bar', 'took', 'size'];

// Share of the bar's width.
const length = ms =>
  Math.min(1, Math.max(0.02, Math.log(Math.max(ms, SHORTEST) / SHORTEST) / Math.log(LONGEST / SHORTEST)));

export class List {
  rows = [];
  selected;
  follow = true;
  #pool = [];
  // Where the list has put itself.
  #put = NaN;

  // `box` scrolls; `now` gives the server's time; `choose(row)` is called when a row is clicked,
  // `moved()` when the list was scrolled.
  constructor(box, { now, choose, moved }) {
    this.box = box;
    this.now = now;
    this.choose = choose;
    this.moved = moved;
    this.sheet = h('div', { class: 'sheet', role: 'presentation' });
    box.append(this.sheet);
    box.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => (this.show(this.rows), this.moved())).observe(box);
  }

  // Shows these rows, which may be the same array as before with other content.
  show(rows) {
    this.rows = rows;
    const height = `${rows.length * HEIGHT}px`;
    if (this.sheet.style.height !== height) this.sheet.style.height = height;
    this.box.setAttribute('aria-rowcount', String(rows.length));
    // The end of what cannot scroll is always in sight.
    this.follow ||= rows.length * HEIGHT <= this.box.clientHeight;
    if (this.follow) this.#scrollTo(rows.length * HEIGHT);
    this.draw();
  }

  // Draws the rows in sight.
  draw() {
    const top = this.box.scrollTop;
    const first = Math.max(0, Math.floor(top / HEIGHT) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((top + this.box.clientHeight) / HEIGHT) + SPARE);
    const count = Math.max(0, last - first);
    while (this.#pool.length < count) this.#pool.push(this.#element());
    const now = this.now();
    let active = '';
    this.#pool.forEach((element, slot) => {
      // A row keeps its element while it is in sight, so that little changes when the list scrolls.
      const index = first + ((slot - (first % this.#pool.length) + this.#pool.length) % this.#pool.length);
      const row = index < last ? this.rows[index] : undefined;
      element.hidden = !row;
      if (!row) return;
      this.#fill(element, row, index, now);
      if (row.exchange === this.selected) active = element.id;
    });
    setAttribute(this.box, 'aria-activedescendant', active);
  }

  // Brings a row into sight, and draws: what is selected may have become another.
  reveal(index) {
    // Something else may just have taken room, and the end is no longer in sight only because of that.
    if (this.follow) this.#scrollTo(this.rows.length * HEIGHT);
    const { scrollTop, clientHeight } = this.box;
    if (index * HEIGHT < scrollTop) this.#scrollTo(index * HEIGHT);
    else if ((index + 1) * HEIGHT > scrollTop + clientHeight) this.#scrollTo((index + 1) * HEIGHT - clientHeight);
    this.follow = this.#atEnd();
    this.draw();
  }

  #atEnd() {
    return this.box.scrollTop + this.box.clientHeight >= this.rows.length * HEIGHT - HEIGHT / 2;
  }

  #scrollTo(top) {
    if (Math.abs(this.box.scrollTop - top) >= 1) this.box.scrollTop = top;
    this.#put = this.box.scrollTop;
  }

  #scrolled() {
    // What the list did by itself says nothing about what the reader wants. Where it stands tells the two apart, for a busy
    // list scrolls in every frame; and whoever goes up, however little, wants to leave the end. But when there are fewer rows
    // or there is more room, it is the browser that goes up, because the end has.
    const by = this.box.scrollTop - this.#put;
    if (!(Math.abs(by) < 1)) {
      const pushed = this.rows.length * HEIGHT - this.box.clientHeight < this.#put - 1;
      this.follow = (pushed || !(by < 0)) && this.#atEnd();
      this.#put = NaN;
    }
    this.moved();
    this.draw();
  }

  #element() {
    const cells = CELLS.map(name => h('span', { class: name, role: 'gridcell' }));
    const bar = h('i', { class: 'whole' }, h('i', { class: 'server' }));
    cells[CELLS.indexOf('bar')].append(bar);
    const element = h('div', { class: 'row', role: 'row', id: `row-${this.#pool.length}` }, cells);
    element.addEventListener('click', () => this.choose(element.row));
    Object.assign(element, { cells, bar });
    this.sheet.append(element);
    return element;
  }

  #fill(element, row, index, now) {
    const [time, way, method, name, connection, outcome, , took, size] = element.cells;
    element.row = row;
    const top = `translateY(${index * HEIGHT}px)`;
    if (element.style.transform !== top) element.style.transform = top;
    element.setAttribute('aria-rowindex', String(index + 1));
    element.setAttribute('aria-selected', String(row.exchange === this.selected));
    const hung = isHung(row, now);
    const kind = `row ${row.outcome}${isBad(row) ? ' bad' : ''}${hung ? ' hung' : ''}`;
    if (element.className !== kind) element.className = kind;
    setText(time, clock(row.started));
    const asked = row.direction === 'to-client';
    setText(way, asked ? '←' : '→');
    setAttribute(way, 'aria-label', asked ? 'server asks client' : 'client asks server');
    setText(method, row.method);
    setText(name, row.name);
    setAttribute(method, 'title', row.method);
    setAttribute(name, 'title', row.name);
    setText(connection, row.connection);
    setText(outcome, outcomeText(row));
    // Where there is no room for the word, a sign stands for it.
    setAttribute(outcome, 'title', outcomeText(row));
    const ms = elapsed(row, now);
    // Nobody waited for the server.
    const alone = row.outcome === 'sent' || row.outcome === 'refused';
    setText(took, alone ? '' : duration(ms));
    setText(size, alone ? bytes(row.request_bytes) : `${bytes(row.request_bytes)} ↔ ${bytes(row.response_bytes)}`);
    this.#bar(element.bar, row, ms, alone);
  }

  // The bar's whole is the time that the client waited; the strong part is the server's share of it. Where nobody knows the
  // share, the whole has a shade of its own.
  #bar(bar, row, ms, alone) {
    bar.hidden = alone;
    if (alone) return;
    bar.classList.toggle('unshared', row.upstream_ms === undefined && row.outcome !== 'open');
    const share = row.upstream_ms === undefined ? 0 : Math.min(1, row.upstream_ms / Math.max(ms, 0.001));
    const width = `${(length(ms) * 100).toFixed(1)}%`;
    if (bar.style.width !== width) bar.style.width = width;
    const part = `${(share * 100).toFixed(0)}%`;
    if (bar.firstChild.style.width !== part) bar.firstChild.style.width = part;
    const server = row.upstream_ms === undefined ? '' : `, of which the server ${duration(row.upstream_ms)}`;
    setAttribute(bar, 'title', duration(ms) + server);
  }
}
