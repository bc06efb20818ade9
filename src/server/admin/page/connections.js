// The list of connections: who is there, how they came, and how they fare. Those that use the old transport are counted on top.
import { FRONT_MEANS, FRONTS, age, clock } from './format.js';
import { h, setAttribute, setText } from './dom.js';

// So many are shown; the rest is counted. Those that are open come first, then the newest.
const SHOWN = 200;

const order = (a, b) => Number(a.closed !== undefined) - Number(b.closed !== undefined) || b.opened - a.opened;

export class Connections {
  #elements = new Map();

  constructor({ list, summary, more, now, choose, chooseFront }) {
    Object.assign(this, { list, summary, more, now, choose, chooseFront });
  }

  // `filter` says what is selected.
  show(connections, filter) {
    const all = [...connections.values()];
    this.#summarise(all, filter);
    const wanted = all.filter(row => !filter.front || row.front === filter.front).sort(order);
    const shown = wanted.slice(0, SHOWN);
    const chosen = connections.get(filter.connection);
    if (chosen && !shown.includes(chosen)) shown.unshift(chosen);
    const keep = new Set(shown.map(row => row.connection));
    for (const [label, element] of this.#elements) {
      if (!keep.has(label)) element.remove(), this.#elements.delete(label);
    }
    let before = null;
    for (const row of shown) {
      const element = this.#element(row.connection);
      const place = before ? before.nextSibling : this.list.firstChild;
      if (element !== place) this.list.insertBefore(element, place);
      before = element;
      this.#fill(element, row, filter.connection === row.connection);
    }
    setText(this.more, wanted.length > SHOWN ? `${wanted.length - SHOWN} more, not shown` : wanted.length === 0 ? 'none yet' : '');
  }

  #summarise(all, filter) {
    for (const front of Object.keys(FRONTS)) {
      const open = all.filter(row => row.front === front && row.closed === undefined).length;
      const button = this.#chip(front);
      setText(button.lastChild, String(open));
      button.setAttribute('aria-pressed', String(filter.front === front));
    }
  }

  #chip(front) {
    const known = this.summary.querySelector(`[data-front=${front}]`);
    if (known) return known;
    const chip = h('button', { type: 'button', class: `chip ${front}`, title: FRONT_MEANS[front], dataset: { front } });
    chip.append(`${FRONTS[front]} `, h('b', {}, '0'));
    chip.addEventListener('click', () => this.chooseFront(front));
    this.summary.append(chip);
    return chip;
  }

  #element(label) {
    const known = this.#elements.get(label);
    if (known) return known;
    const parts = {};
    const part = (tag, name) => (parts[name] = h(tag, { class: name }));
    const element = h('button', { type: 'button', class: 'connection', dataset: { connection: label } },
      h('span', { class: 'first' }, part('span', 'badge'), part('b', 'client'), part('span', 'label')),
      h('span', { class: 'second' }, part('span', 'versions')),
      h('span', { class: 'third' }, ...['age', 'session', 'flying', 'calls', 'errors'].map(name => part('span', name))),
    );
    element.parts = parts;
    element.addEventListener('click', () => this.choose(label));
    const item = h('li', {}, element);
    item.button = element;
    this.#elements.set(label, item);
    return item;
  }

  #fill(item, row, selected) {
    const { parts } = item.button;
    item.button.setAttribute('aria-pressed', String(selected));
    item.classList.toggle('closed', row.closed !== undefined);
    parts.badge.className = `badge ${row.front}`;
    setText(parts.badge, FRONTS[row.front] ?? row.front);
    setAttribute(parts.badge, 'title', FRONT_MEANS[row.front]);
    const client = row.client ? `${row.client.name} ${row.client.version}`.trim() : 'unknown client';
    setText(parts.client, client);
    setAttribute(parts.client, 'title', `${client} at ${row.peer}`);
    setText(parts.label, row.connection);
    setText(parts.versions, versions(row));
    setAttribute(parts.versions, 'title', `client’s side → server’s side${row.era ? `; the server speaks the ${row.era} era` : ''}`);
    setText(parts.session, row.session);
    setAttribute(parts.session, 'title', 'Short hash of the server’s session id');
    this.#age(parts.age, row);
    setText(parts.flying, row.in_flight ? `${row.in_flight} open` : '');
    setText(parts.calls, `${row.calls} call${row.calls === 1 ? '' : 's'}`);
    setText(parts.errors, row.errors ? `${row.errors} error${row.errors === 1 ? '' : 's'}` : '');
  }

  #age(element, row) {
    const lasted = (row.closed ?? this.now()) - row.opened;
    setText(element, row.closed === undefined ? brief(lasted) : `closed (${brief(lasted)})`);
    setAttribute(element, 'title', `since ${clock(row.opened)}, ${age(lasted)}`);
  }
}

// An age's largest unit, which is enough to compare.
const brief = ms => age(ms).split(' ').slice(0, 2).join(' ');

// The protocol versions of both sides and the server's era.
export function versions(row) {
  const [client, server] = [row.protocol, row.upstream_protocol];
  const pair = client && server && client !== server ? `${client} → ${server}` : (client ?? server ?? 'no handshake yet');
  return row.era ? `${pair} · ${row.era}` : pair;
}
