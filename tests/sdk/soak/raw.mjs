// A legacy client by hand over plain sockets, for what no SDK does: reading a byte a second, and looking at the very end
// of the stream's chunked body.
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

// `more` is whole header lines.
const request = (method, path, body, more = '') =>
  `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream, application/json\r\n${more}` +
  (body === undefined
    ? '\r\n'
    : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`);

// One POST on a socket of its own; the status, or 0 when the socket ended without one.
function post(port, path, message, more) {
  return new Promise(resolve => {
    let answer = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(request('POST', path, JSON.stringify(message), more)));
    socket.setTimeout(30_000, () => socket.destroy());
    socket.setEncoding('latin1').on('data', chunk => (answer += chunk));
    socket.on('error', () => {});
    socket.on('close', () => resolve(Number(answer.match(/^HTTP\/1\.1 (\d+)/)?.[1] ?? 0)));
  });
}

export class RawClient {
  text = '';
  waiting = new Map(); // id -> resolve
  ended = undefined; // 'clean', 'cut' or 'reset' once the stream is over
  id = 1;

  static async open(port, { capabilities = {}, headers = '' } = {}) {
    const client = new RawClient();
    Object.assign(client, { port, headers });
    client.socket = connect(port, '127.0.0.1', () => client.socket.write(request('GET', '/sse', undefined, headers)));
    client.over = new Promise(resolve => (client.finish = resolve));
    client.endpoint = new Promise((resolve, reject) => ((client.gotEndpoint = resolve), (client.noEndpoint = reject)));
    client.endpoint.catch(() => {});
    client.socket.setEncoding('utf8').on('data', chunk => client.read(chunk));
    client.socket.on('end', () => client.close(client.text.endsWith('\r\n0\r\n\r\n') ? 'clean' : 'cut'));
    client.socket.on('error', () => client.close('reset'));
    client.socket.on('close', () => client.close('cut'));
    client.path = await client.endpoint;
    const params = { protocolVersion: '2024-11-05', capabilities, clientInfo: { name: 'raw', version: '1' } };
    await client.ask('initialize', params);
    await client.post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    return client;
  }

  post = message => post(this.port, this.path, message, this.headers);

  close(how) {
    if (this.ended) return;
    this.ended = how;
    this.noEndpoint(new Error(`the stream ended (${how}) before the endpoint event`));
    for (const resolve of this.waiting.values()) resolve({ outcome: 'stream-ended' });
    this.waiting.clear();
    this.finish(how);
    this.socket.destroy();
  }

  // The ferry writes an event as one chunk: `event: ...\ndata: ...\n\n`. Chunk sizes are lines of their own in between.
  read(chunk) {
    this.text += chunk;
    for (let end; (end = this.text.indexOf('\n\n')) >= 0;) {
      const event = this.text.slice(0, end);
      this.text = this.text.slice(end + 2);
      const data = event.match(/^data: (.*)$/m)?.[1];
      if (data === undefined) continue;
      if (/^event: endpoint$/m.test(event)) this.gotEndpoint(data);
      else this.message(JSON.parse(data));
    }
  }

  message(message) {
    if (message.method !== undefined && message.id !== undefined) {
      const text = message.params?.messages?.[0]?.content?.text;
      const result = { role: 'assistant', model: 'raw', content: { type: 'text', text: `sampled ${text}` } };
      return void this.post({ jsonrpc: '2.0', id: message.id, result });
    }
    const resolve = this.waiting.get(message.id);
    if (!resolve) return void (message.id !== undefined && (this.stray = message.id));
    this.waiting.delete(message.id);
    resolve({ outcome: message.error ? 'error' : 'result', message });
  }

  async ask(method, params) {
    const id = this.id++;
    const answered = new Promise(resolve => this.waiting.set(id, resolve));
    const status = await this.post({ jsonrpc: '2.0', id, method, params });
    if (status !== 202 && this.waiting.delete(id)) return { outcome: 'post-failed', status };
    return answered;
  }

  call = (tool, args) => this.ask('tools/call', { name: tool, arguments: args });
}

// A socket that is not read tells neither its end nor a reset, and with its window at zero not even the kernel has heard
// of it; but on the other end, which is on this machine, the connection has left the state ESTABLISHED.
function isOpen({ localPort, remotePort }) {
  const hex = port => port.toString(16).toUpperCase().padStart(4, '0');
  return new RegExp(`: 0100007F:${hex(remotePort)} 0100007F:${hex(localPort)} 01 `).test(
    readFileSync('/proc/net/tcp', 'utf8'),
  );
}

// Asks for `count` large answers and then takes a byte a second off its socket, until it is closed or told to stop. Each
// call's nonce goes to `called` before it is made.
export async function slowReader(port, { count, size, called, stopped }) {
  const client = await RawClient.open(port);
  const { socket } = client;
  socket.removeAllListeners('data').pause();
  for (let n = 0; n < count; n++) {
    const key = randomUUID();
    called(key);
    void post(port, client.path, {
      jsonrpc: '2.0',
      id: 100 + n,
      method: 'tools/call',
      params: { name: 'big', arguments: { key, size } },
    });
  }
  let timer;
  const closed = new Promise(resolve => {
    timer = setInterval(() => (socket.read(1), isOpen(socket) || resolve('closed')), 1000);
  });
  const how = await Promise.race([closed, stopped.then(() => 'left')]);
  clearInterval(timer);
  socket.destroy();
  return how;
}
