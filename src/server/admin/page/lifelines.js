// The sequence view: client, ferry and server as lines, what crossed as arrows between them, time going down.
import { MOST, layout, since } from './sequence.js';
import { button, h, s, setText } from './dom.js';
import { duration, shorten } from './format.js';

// Wide enough for the longest time, which ends a little before it.
const marginOf = width => (width < 500 ? 70 : 78);
// What is written beside a line stands so far from it; a character of the small size is about so wide.
const [NEAR, SMALL] = [6, 6.1];

// Draws records into `box`. An arrow stays the same element as long as it is shown, so that it keeps the focus while others
// come; `open(record)` is called for the one that is chosen.
export class Lifelines {
  #records = [];
  #selected;
  #width;
  #arrows = new Map();
  // Of many records a window is shown: from this one on, or the newest.
  #start = 0;
  #newest = true;

  constructor(box, open) {
    this.box = box;
    this.open = open;
    this.earlier = button('earlier', 'Earlier messages', () => this.#page(-MOST));
    this.later = button('later', 'Later messages', () => this.#page(MOST));
    this.where = h('span', {});
    this.pages = h('p', { class: 'pages' }, this.earlier, this.later, this.where);
    this.head = h('div', { class: 'parties' });
    this.drawing = s('svg', { class: 'sequence', role: 'group', 'aria-label': 'Sequence of messages' });
    this.drawing.addEventListener('keydown', event => move(event, [...this.#arrows.values()]));
    box.append(this.pages, this.head, this.drawing);
  }

  // `selected` is the sequence number of the record that is being read, if any: then the window stays where it is.
  show(records, selected) {
    this.#records = records;
    this.#selected = selected;
    if (this.#newest && selected === undefined) this.#start = Math.max(0, records.length - MOST);
    this.#draw();
  }

  #page(by) {
    const last = Math.max(0, this.#records.length - MOST);
    this.#start = Math.max(0, Math.min(last, this.#start + by));
    this.#newest = this.#start === last;
    this.#draw();
  }

  #draw() {
    const count = this.#records.length;
    const start = this.#start;
    const end = Math.min(count, start + MOST);
    const width = Math.max(300, Math.min(1100, this.box.clientWidth - 24));
    const margin = marginOf(width);
    const { height, lifelines, items } = layout(this.#records, width, margin, { start, end });
    const focused = Number(document.activeElement?.closest('g.arrow')?.dataset.seq);
    this.#ground(width, height, lifelines);
    this.#arrange(items, margin);
    const again = this.#arrows.get(focused);
    if (again && again !== document.activeElement) again.focus({ preventScroll: true });
    this.pages.hidden = count <= MOST;
    this.earlier.disabled = start === 0;
    this.later.disabled = end >= count;
    setText(this.where, ` ${start + 1} to ${end} of ${count}`);
  }

  // The three lines and their names; of another width everything is drawn anew.
  #ground(width, height, lifelines) {
    this.drawing.setAttribute('height', height);
    if (width === this.#width) {
      for (const line of this.drawing.querySelectorAll('.life')) line.setAttribute('y2', height);
      return;
    }
    this.#width = width;
    this.#arrows.clear();
    this.drawing.setAttribute('width', width);
    this.drawing.replaceChildren(...lifelines.map(({ x, party }) => s('line', { class: `life ${party}`, x1: x, x2: x, y1: 0, y2: height })));
    this.head.style.width = `${width}px`;
    const name = ({ party, x }) => {
      const element = h('span', { class: party }, party);
      element.style.left = `${x}px`;
      return element;
    };
    this.head.replaceChildren(...lifelines.map(name));
  }

  // Brings the arrows into their places, and takes away those that have left the window.
  #arrange(items, margin) {
    const before = this.#arrows;
    this.#arrows = new Map(items.map(item => [item.record.seq, before.get(item.record.seq) ?? arrow(item, { width: this.#width, margin }, this.open)]));
    for (const [seq, element] of before) if (!this.#arrows.has(seq)) element.remove();
    let last = this.drawing.querySelector('.life:last-of-type');
    for (const { record, y } of items) {
      const element = this.#arrows.get(record.seq);
      element.setAttribute('transform', `translate(0 ${y})`);
      element.classList.toggle('selected', record.seq === this.#selected);
      // What is put in anew loses the focus.
      if (last.nextSibling !== element) last.after(element);
      last = element;
    }
    if (this.drawing.querySelector('g[tabindex="0"]')) return;
    (this.#arrows.get(this.#selected) ?? this.#arrows.values().next().value)?.setAttribute('tabindex', '0');
  }
}

// Up and down go from arrow to arrow, so that the drawing is one stop of the tabulator.
function move(event, arrows) {
  const by = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  const index = arrows.indexOf(event.target.closest('g'));
  if (by === undefined || index < 0) return;
  event.preventDefault();
  event.stopPropagation();
  const next = arrows[Math.max(0, Math.min(arrows.length - 1, index + by))];
  for (const element of arrows) element.setAttribute('tabindex', element === next ? '0' : '-1');
  next.focus();
}

// Drawn at a height of nothing: it is moved to its place.
function arrow(item, { width, margin }, open) {
  const { record, parties, from, to, text, look, offset, pause } = item;
  const call = record.call === undefined ? '' : `call ${record.call}`;
  const said = `${parties.from ? `${parties.from} to ${parties.to}: ` : ''}${text}${call && `, ${call}`}, after ${duration(offset)}`;
  const group = s('g', {
    ...{ class: `arrow ${look}`, role: 'button', tabindex: '-1' },
    ...{ 'aria-label': said, 'data-seq': record.seq },
  });
  const [left, right] = [Math.min(from, to), Math.max(from, to)];
  group.append(
    s('title', {}, said),
    s('rect', { class: 'hit', x: 0, y: -17, width: right + 60, height: 25 }),
    s('text', { class: 'offset', x: margin - 4, y: 3, 'text-anchor': 'end' }, `+${since(offset)}`),
  );
  if (pause !== undefined) group.append(s('text', { class: 'pause', x: margin - 4, y: -12, 'text-anchor': 'end' }, `⋮ ${duration(pause)}`));
  if (from === to) {
    group.append(s('circle', { cx: from, cy: 0, r: 4 }), s('text', { class: 'label', x: from + 9, y: 4 }, shorten(text, 44)));
  } else {
    const way = to > from ? 1 : -1;
    group.append(
      // Below the arrow, which the text's ground would cover. A character of this size is about 6.3 wide; a label stays
      // between its lines.
      s('text', { class: 'label', x: (left + right) / 2, y: -5, 'text-anchor': 'middle' }, shorten(text, Math.floor((right - left - 12) / 6.3))),
      s('line', { class: 'shaft', x1: from, x2: to - way * 5, y1: 0, y2: 0 }),
      s('path', { class: 'tip', d: `M${to} 0l${-way * 8} -4v8z` }),
    );
  }
  if (call) group.append(callNumber(call, Math.max(left, right), width));
  group.addEventListener('click', () => open(record));
  group.addEventListener('keydown', event => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    event.stopPropagation();
    open(record);
  });
  return group;
}

// Which call an arrow belongs to, beside the server's line: the answers of several calls may cross. Where there is no room for
// the word, the number stands alone.
function callNumber(call, server, width) {
  const room = Math.floor((width - server - NEAR) / SMALL);
  return s('text', { class: 'call', x: server + NEAR, y: 3 }, call.length <= room ? call : call.replace('call ', ''));
}
