// What the page holds: the rows of connections and exchanges, newest last, and never more than LIMIT of each. Pure; knows
// neither network nor page.

export const LIMIT = 20_000;

export class Store {
  rows = [];
  connections = new Map();
  // How many exchanges were let go because LIMIT was reached.
  dropped = 0;
  #byId = new Map();

  exchange(id) {
    return this.#byId.get(id);
  }

  connection(label) {
    return this.connections.get(label);
  }

  // Replaces everything by what the server has.
  load({ connections, exchanges }) {
    this.rows = exchanges.slice(-LIMIT);
    this.dropped = exchanges.length - this.rows.length;
    this.#byId = new Map(this.rows.map(row => [row.exchange, row]));
    this.connections = new Map(connections.slice(-LIMIT).map(row => [row.connection, row]));
  }

  // Takes changed rows. Says what it meant: rows that are new, and rows that were there before and have changed.
  apply({ connections, exchanges }) {
    const added = [];
    const altered = [];
    for (const row of connections) this.connections.set(row.connection, row);
    for (const row of exchanges) {
      const known = this.#byId.get(row.exchange);
      if (known) {
        // In place, so that everyone who holds the row sees it.
        for (const name of Object.keys(known)) if (!Object.hasOwn(row, name)) delete known[name];
        altered.push(Object.assign(known, row));
      } else if (!this.#wasLetGo(row)) {
        this.#byId.set(row.exchange, row);
        this.rows.push(row);
        added.push(row);
      }
    }
    return { added, altered, removed: this.#trim() };
  }

  // Exchanges are numbered in their order. One that is older than all of a full list has been let go, and would come back as the
  // newest when it changes.
  #wasLetGo(row) {
    return this.rows.length >= LIMIT && row.exchange < this.rows[0].exchange;
  }

  #trim() {
    const excess = this.rows.length - LIMIT;
    if (excess > 0) {
      for (const row of this.rows.splice(0, excess)) this.#byId.delete(row.exchange);
      this.dropped += excess;
    }
    // Those that have gone first; a map keeps the order in which its members came.
    for (const closedOnly of [true, false]) {
      for (const [label, row] of this.connections) {
        if (this.connections.size <= LIMIT) break;
        if (!closedOnly || row.closed !== undefined) this.connections.delete(label);
      }
    }
    return Math.max(0, excess);
  }
}

// Changes that wait for the next frame, or for the end of a pause: the newest state of each row, at most LIMIT of them.
export class Waiting {
  #exchanges = new Map();
  #connections = new Map();

  get exchanges() {
    return this.#exchanges.size;
  }

  put(kind, row) {
    const [map, key] = kind === 'exchange' ? [this.#exchanges, row.exchange] : [this.#connections, row.connection];
    map.set(key, row);
    if (map.size > LIMIT) map.delete(map.keys().next().value);
  }

  take() {
    const taken = { exchanges: [...this.#exchanges.values()], connections: [...this.#connections.values()] };
    this.#exchanges.clear();
    this.#connections.clear();
    return taken;
  }
}
