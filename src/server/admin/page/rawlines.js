// The view of raw records: the newest lines as they are stored. Lines that are there stay when others come.
import { button, copy, h, setText } from './dom.js';

// Records whose text is shown at once; an export has them all.
const MOST = 300;

export class RawLines {
  #lines = [];

  constructor(box) {
    this.count = h('span', {});
    const text = () => this.#lines.map(({ line }) => line).join('\n');
    const taker = button('copy all', 'Copy the records', ({ currentTarget }) => copy(text(), currentTarget));
    this.list = h('div', {});
    box.replaceChildren(h('p', { class: 'bar' }, this.count, ' records, one JSON object a line ', taker), this.list);
  }

  show(lines) {
    const fresh = lines.slice(Math.max(this.#lines.length, lines.length - MOST));
    this.#lines = lines;
    this.list.append(...fresh.map(({ line }) => h('pre', { class: 'record-line' }, line)));
    while (this.list.childElementCount > MOST) this.list.firstChild.remove();
    setText(this.count, lines.length > MOST ? `The last ${MOST} of ${lines.length}` : `${lines.length}`);
  }
}
