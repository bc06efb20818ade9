// What a modern-only server saw, as HTTP: every request with the headers that mirror its message, whether its reply ended
// or was cut off by the caller, and the listen streams that are open. Stands before the SDK's handler, changes nothing, and
// is part of GET /control. `py_recorder.py` reports the same.
const KEPT = 100; // the last requests; scenarios look for their own by a nonce
const LONGEST = 4096; // characters of params that are kept

const MIRRORED = /^(mcp-|last-event-id$|accept$)/;

export class Recorder {
  constructor() {
    this.posts = 0;
    this.requests = [];
    this.streams = new Map(); // number of an open subscriptions/listen -> its filter
    this.eras = { handshake: 0, modern: 0 };
  }

  // Notes a request that has been read, and follows its reply.
  note(req, res, message) {
    const { id, method, params: { _meta: meta, ...params } = {} } = message ?? {};
    const headers = Object.fromEntries(Object.entries(req.headers).filter(([name]) => MIRRORED.test(name)));
    const number = ++this.posts;
    const short = JSON.stringify(params).length <= LONGEST ? params : { too: 'long' };
    const entry = { number, verb: req.method, id, method, params: short, meta, headers, state: 'open' };
    this.requests.push(entry);
    if (this.requests.length > KEPT) this.requests.shift();
    this.eras[headers['mcp-protocol-version'] >= '2026' ? 'modern' : 'handshake']++;
    if (method === 'subscriptions/listen') this.streams.set(number, params.notifications);
    res.on('close', () => {
      entry.state = res.writableFinished ? 'ended' : 'cut';
      entry.status = res.statusCode;
      this.streams.delete(number);
    });
  }

  report = () => ({
    level: undefined, // each request says for itself which log messages it wants
    posts: this.posts,
    eras: this.eras,
    requests: this.requests,
    listening: [...this.streams.values()],
    // Where there are no sessions, an open listen stream is all that the server holds for a client.
    sessions: [...this.streams.keys()].map(number => `listen ${number}`),
  });
}
