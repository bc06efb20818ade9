// The tap's API as the page uses it: requests with the token, and the live stream with its reconnecting. Knows no page.
import { eventReader } from './sse.js';
import { parse } from './json.js';

// Milliseconds between attempts to connect again.
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
// The server says something every 15 s; after this long without, in milliseconds, the connection counts as dead.
const SILENCE = 40_000;

export class ApiError extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// How every record begins.
const BEGINNING = /^\{"v":\d+,"seq":(\d+),"time":"([^"]+)"(?:,"connection":"([^"]+)")?(?:,"exchange":(\d+))?,/;

// What a line says. One that this page cannot read takes no others along: of it there is what its beginning tells, and its text.
function recordOf(line) {
  try {
    return parse(line);
  } catch (error) {
    const found = BEGINNING.exec(line);
    // No ferry has written that.
    if (!found) throw error;
    const [, seq, time, connection, exchange] = found;
    const record = { seq: Number(seq), time, kind: 'unread', why: `This page cannot read the record: ${error.message}`, text: line };
    if (connection !== undefined) record.connection = connection;
    if (exchange !== undefined) record.exchange = Number(exchange);
    return record;
  }
}

export class Api {
  constructor(token) {
    this.token = token;
  }

  async #fetch(path, options = {}) {
    const headers = { authorization: `Bearer ${this.token}` };
    const answer = await fetch(path, { ...options, headers, cache: 'no-store', redirect: 'error' });
    if (answer.ok) return answer;
    let text = `HTTP ${answer.status}`;
    try {
      text = (await answer.json()).error ?? text;
    } catch {
      // What is not the API's own error has no text for people.
    }
    throw new ApiError(answer.status, text);
  }

  state = async () => (await this.#fetch('/api/state')).json();
  rows = async () => (await this.#fetch('/api/rows')).json();
  clear = () => this.#fetch('/api/clear', { method: 'POST' });

  // Records as { line, record }: the line as it came, for the export, and what it says.
  async records({ exchange, connection, after } = {}, signal) {
    const query = new URLSearchParams();
    if (exchange !== undefined) query.set('exchange', exchange);
    if (connection !== undefined) query.set('connection', connection);
    if (after !== undefined) query.set('after', after);
    const text = await (await this.#fetch(`/api/records?${query}`, { signal })).text();
    const lines = text.split('\n').filter(line => line !== '');
    return lines.map(line => ({ line, record: recordOf(line) }));
  }

  // Reads the live stream until it ends. `take({ event, data })` gets every event but comments; `alive()` is called for these
  // too. Ends with an error when the stream does, or is silent.
  async live(take, signal) {
    const silence = new AbortController();
    const either = AbortSignal.any([signal, silence.signal]);
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(new ApiError(0, 'the server has gone silent')), SILENCE);
    };
    try {
      alive();
      const answer = await this.#fetch('/api/live', { signal: either });
      const read = eventReader();
      const body = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await body.read();
        if (done) throw new ApiError(0, 'the stream has ended');
        alive();
        for (const { event, data } of read(value)) if (event !== 'comment') take({ event, data: JSON.parse(data) });
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

// Keeps the page supplied: connects, loads the rows, hands on what changes, and connects again when that ends. Calls
//   load(rows, state)      everything anew: at the beginning, after a break, and when the tap was cleared
//   take(event, data)      one change, after the first load
//   say(state, text)       'connecting', 'live', 'disconnected' with why and when next, 'denied' for a wrong token
// Returns what ends it.
export function supply(api, { load, take, say }) {
  const stop = new AbortController();
  void keep(api, { load, take, say }, stop.signal);
  return () => stop.abort();
}

async function keep(api, handlers, signal) {
  let wait = FIRST_WAIT;
  while (!signal.aborted) {
    handlers.say('connecting', '');
    try {
      await once(api, handlers, signal, () => (wait = FIRST_WAIT));
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return handlers.say('denied', error.message);
      const why = error instanceof ApiError ? error.message : 'the ferry cannot be reached';
      handlers.say('disconnected', `${why}; trying again in ${Math.ceil(wait / 1000)} s`);
      await pause(wait, signal);
      wait = Math.min(LONGEST_WAIT, wait * 2);
    }
  }
}

// The stream is opened before the rows are asked for, so that nothing falls between; what comes meanwhile is put on top. A row
// that is older than the one it replaces is followed by the newer one on the same stream. When the tap was cleared the rows are
// asked for anew in the same way: what came before is in them, or gone.
async function once(api, { load, take, say }, signal, connected) {
  // What has come since the rows were asked for, while they are loaded.
  let early;
  let [live, over] = [false, false];
  const ended = new AbortController();
  const begin = async ({ now }) => {
    const since = (early = []);
    const [rows, state] = await Promise.all([api.rows(), api.state()]);
    // They may have been asked for again meanwhile.
    if (since !== early) return;
    early = undefined;
    load(rows, { ...state, now: now ?? state.now });
    for (const { event, data } of since) take(event, data);
    // The stream may have ended meanwhile.
    if (over || live) return;
    live = true;
    connected();
    say('live', '');
  };
  const stream = api.live(change => {
    if (change.event === 'hello' || change.event === 'cleared') begin(change.data).catch(error => ended.abort(error));
    else if (early) early.push(change);
    else take(change.event, change.data);
  }, AbortSignal.any([signal, ended.signal]));
  await stream.finally(() => (over = true));
}

const pause = (ms, signal) =>
  new Promise(resolve => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
