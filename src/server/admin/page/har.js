// HAR 1.2: one entry for every call to the server, so that other tools can open what was seen. What HAR has no place for (the
// client's leg, the exchange, the connection) is in fields that begin with an underscore, as HAR allows. Pure.
import { urlOf } from './curl.js';
import { moment } from './format.js';
import { write } from './json.js';
import { legOf } from './legs.js';

const REASONS = {
  ...{ 200: 'OK', 202: 'Accepted', 204: 'No Content', 400: 'Bad Request', 401: 'Unauthorized', 403: 'Forbidden' },
  ...{ 404: 'Not Found', 405: 'Method Not Allowed', 406: 'Not Acceptable', 409: 'Conflict', 413: 'Content Too Large' },
  ...{ 429: 'Too Many Requests', 500: 'Internal Server Error', 502: 'Bad Gateway', 503: 'Service Unavailable' },
  504: 'Gateway Timeout',
};
const pairs = headers => (headers ?? []).map(([name, value]) => ({ name, value }));
const header = (headers, wanted) => (headers ?? []).find(([name]) => name === wanted)?.[1];
// What of a body is not there, for the comment that HAR allows beside it.
function cutOf(record) {
  if (!record.cut) return record.why;
  const kept = new TextEncoder().encode(textOf(record)).length;
  return `only the first ${kept} of ${record.size} bytes were kept`;
}
const withComment = (value, ...comments) => {
  const comment = comments.filter(Boolean).join('; ');
  return comment ? { ...value, comment } : value;
};
const textOf = record => (record.body !== undefined ? write(record.body) : (record.text ?? ''));

export function har(records, { upstream, version }) {
  const calls = new Map();
  const clients = new Map();
  for (const record of records) {
    if (record.from && legOf(record) === 'client' && record.exchange !== undefined) {
      clients.set(record.exchange, [...(clients.get(record.exchange) ?? []), record]);
    } else if (record.call !== undefined) {
      const name = `${record.connection} ${record.call}`;
      calls.set(name, [...(calls.get(name) ?? []), record]);
    }
  }
  const told = new Set();
  const entries = [...calls.values()].filter(call => call.some(begins)).map(call => entry(call, clients, told, upstream));
  return {
    log: {
      version: '1.2',
      creator: { name: 'mcp-ferry', version: version || '0' },
      comment: 'One entry for every call to the server. Secrets were redacted before they were stored.',
      entries,
    },
  };
}

const begins = record => record.kind === 'message' && record.http !== undefined;

function entry(call, clients, told, upstream) {
  const first = call.find(begins);
  const status = call.find(record => record.kind === 'status');
  const ended = call.find(record => record.kind === 'ended');
  const answers = call.filter(record => record.kind === 'message' && record.from === 'server');
  const at = record => (record ? moment(record.time) : undefined);
  const start = at(first);
  const last = at(call[call.length - 1]);
  const wait = Math.max(0, (at(status) ?? last) - start);
  const receive = Math.max(0, (at(ended) ?? last) - (at(status) ?? last));
  const other = {};
  // The client's leg is told once for an exchange, at its first call.
  if (first.exchange !== undefined && !told.has(first.exchange)) {
    told.add(first.exchange);
    other._clientLeg = (clients.get(first.exchange) ?? []).map(record => JSON.parse(write(record)));
  }
  if (first.purpose) other._purpose = first.purpose;
  if (first.exchange !== undefined) other._exchange = first.exchange;
  if (first.connection !== undefined) other._connection = first.connection;
  return {
    startedDateTime: first.time,
    time: wait + receive,
    request: request(first, upstream),
    response: response(status, answers, ended),
    cache: {},
    timings: { blocked: -1, dns: -1, connect: -1, ssl: -1, send: 0, wait, receive },
    comment: comment(first),
    ...other,
  };
}

function comment(record) {
  const passed = legOf(record) === 'through';
  const what = record.purpose ? `the ferry's own call: ${record.purpose}` : (record.message?.method ?? record.message?.type ?? '');
  return `${passed ? 'passed through' : 'sent by the ferry'}${what ? `, ${what}` : ''}`;
}

function request(record, upstream) {
  const { method, headers } = record.http;
  const url = urlOf(record, upstream);
  const body = textOf(record);
  const query = url.includes('?') ? url.slice(url.indexOf('?') + 1) : '';
  return {
    ...{ method, url, httpVersion: 'HTTP/1.1', cookies: [], headers: pairs(headers) },
    queryString: [...new URLSearchParams(query)].map(([name, value]) => ({ name, value })),
    ...(body || cutOf(record) ? { postData: withComment({ mimeType: header(headers, 'content-type') ?? 'application/json', params: [], text: body }, cutOf(record)) } : {}),
    ...{ headersSize: -1, bodySize: record.size ?? 0 },
  };
}

function response(status, answers, ended) {
  const mimeType = header(status?.headers, 'content-type') ?? '';
  const stream = mimeType.startsWith('text/event-stream');
  const text = answers.map(record => (stream ? `data: ${textOf(record)}\n\n` : textOf(record))).join(stream ? '' : '\n');
  const size = answers.reduce((sum, record) => sum + (record.size ?? 0), 0);
  const notes = [];
  if (!status) notes.push('no answer');
  if (ended?.why) notes.push(ended.why);
  // Of a stream it is said which message is meant.
  const cuts = answers.map((record, i) => cutOf(record) && `${answers.length > 1 ? `message ${i + 1}: ` : ''}${cutOf(record)}`);
  return withComment({
    ...{ status: status?.status ?? 0, statusText: REASONS[status?.status] ?? '', httpVersion: 'HTTP/1.1', cookies: [] },
    headers: pairs(status?.headers),
    content: withComment({ size, mimeType: mimeType || 'x-unknown', text }, ...cuts),
    ...{ redirectURL: '', headersSize: -1, bodySize: -1 },
  }, ...notes);
}
