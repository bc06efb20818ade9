// The sequence view: client, ferry and server as lines, what crossed as arrows between them, time going down.
import { MOST, layout, since } from './sequence.js';
import { button, h, s } from './dom.js';
import { duration, shorten } from './format.js';

const marginOf = width => (width < 500 ? 62 : 78);

// Draws `records` into `box`; `open(record)` is called for the arrow that is chosen. `end` is the index after the last one
// shown, where not all are.
export function drawSequence(box, records, { open, selected, end = records.length }) {
  const width = Math.max(300, Math.min(1100, box.clientWidth - 24));
  const start = Math.max(0, end - MOST);
  const shown = records.slice(start, end);
  const margin = marginOf(width);
  const { height, lifelines, items } = layout(shown, width, margin);
  const head = h('div', { class: 'parties' });
  head.style.width = `${width}px`;
  for (const { party, x } of lifelines) {
    const name = h('span', { class: party }, party);
    name.style.left = `${x}px`;
    head.append(name);
  }
  const drawing = s('svg', { class: 'sequence', width, height, role: 'group', 'aria-label': 'Sequence of messages' });
  for (const { x, party } of lifelines) {
    drawing.append(s('line', { class: `life ${party}`, x1: x, x2: x, y1: 0, y2: height }));
  }
  const arrows = items.map(item => arrow(item, margin, open, item.record.seq === selected));
  drawing.append(...arrows);
  const current = arrows.find(element => element.classList.contains('selected')) ?? arrows[0];
  current?.setAttribute('tabindex', '0');
  drawing.addEventListener('keydown', event => move(event, arrows));
  const again = at => drawSequence(box, records, { open, selected, end: at });
  const window = records.length > MOST ? pages(start, end, records.length, again) : undefined;
  box.replaceChildren(...[window, head, drawing].filter(Boolean));
}

function pages(start, end, count, again) {
  const earlier = button('earlier', 'Earlier messages', () => again(Math.max(MOST, start)));
  const later = button('later', 'Later messages', () => again(Math.min(count, end + MOST)));
  earlier.disabled = start === 0;
  later.disabled = end >= count;
  return h('p', { class: 'pages' }, earlier, later, ` ${start + 1} to ${end} of ${count}`);
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

function arrow(item, margin, open, selected) {
  const { record, y, from, to, text, look, offset, pause } = item;
  const said = `${record.from ? `${record.from} to ${record.to}: ` : ''}${text}, after ${duration(offset)}`;
  const group = s('g', {
    ...{ class: `arrow ${look}${selected ? ' selected' : ''}`, role: 'button', tabindex: '-1' },
    ...{ 'aria-label': said, 'data-seq': record.seq },
  });
  const [left, right] = [Math.min(from, to), Math.max(from, to)];
  group.append(
    s('title', {}, said),
    s('rect', { class: 'hit', x: 0, y: y - 17, width: right + 60, height: 25 }),
    s('text', { class: 'offset', x: margin - 12, y: y + 3, 'text-anchor': 'end' }, `+${since(offset)}`),
  );
  if (pause !== undefined) group.append(s('text', { class: 'pause', x: margin - 12, y: y - 12, 'text-anchor': 'end' }, `⋮ ${duration(pause)}`));
  if (from === to) {
    group.append(s('circle', { cx: from, cy: y, r: 4 }), s('text', { x: from + 9, y: y + 4 }, shorten(text, 44)));
  } else {
    const way = to > from ? 1 : -1;
    group.append(
      s('line', { class: 'shaft', x1: from, x2: to - way * 5, y1: y, y2: y }),
      s('path', { class: 'tip', d: `M${to} ${y}l${-way * 8} -4v8z` }),
      // A character of this size is about 6.3 wide; a label stays between its lines.
      s('text', { x: (left + right) / 2, y: y - 5, 'text-anchor': 'middle' }, shorten(text, Math.floor((right - left - 12) / 6.3))),
    );
  }
  group.addEventListener('click', () => open(record));
  group.addEventListener('keydown', event => {
    if (event.key !== 'Enter' && event.key !== ' ') return;
    event.preventDefault();
    event.stopPropagation();
    open(record);
  });
  return group;
}
