// As much of the Redis protocol as the rig needs: taking commands and answers apart, and a client that keeps bytes bytes.
import { connect } from 'node:net';

const LINE_END = Buffer.from('\r\n');

// The first value in `bytes` and where it ends; nothing while it is not whole. Texts are Buffers, errors are Errors.
export function parse(bytes, at = 0) {
  const end = bytes.indexOf(LINE_END, at);
  if (end < 0) return undefined;
  const line = bytes.toString('latin1', at + 1, end);
  const after = end + 2;
  switch (bytes[at]) {
    case 0x2b: // +
      return { value: line, end: after };
    case 0x2d: // -
      return { value: new Error(line), end: after };
    case 0x3a: // :
      return { value: Number(line), end: after };
    case 0x24: {
      // $
      const length = Number(line);
      if (length < 0) return { value: null, end: after };
      if (bytes.length < after + length + 2) return undefined;
      return { value: bytes.subarray(after, after + length), end: after + length + 2 };
    }
    case 0x2a: {
      // *
      const count = Number(line);
      if (count < 0) return { value: null, end: after };
      const value = [];
      let next = after;
      for (let n = 0; n < count; n++) {
        const part = parse(bytes, next);
        if (!part) return undefined;
        value.push(part.value);
        next = part.end;
      }
      return { value, end: next };
    }
    default:
      throw new Error(`not the Redis protocol: ${line.slice(0, 40)}`);
  }
}

// Hands every whole value on, with the bytes that it came as.
export class Splitter {
  rest = Buffer.alloc(0);

  constructor(take) {
    this.take = take;
  }

  feed(chunk) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, chunk]) : chunk;
    for (let found; this.rest.length && (found = parse(this.rest));) {
      const raw = this.rest.subarray(0, found.end);
      this.rest = this.rest.subarray(found.end);
      this.take(found.value, raw);
    }
  }
}

export const command = words => {
  const parts = words.map(word => (Buffer.isBuffer(word) ? word : Buffer.from(`${word}`)));
  const pieces = parts.flatMap(part => [Buffer.from(`$${part.length}\r\n`), part, LINE_END]);
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...pieces]);
};

// A connection on which one may ask, and hear what MONITOR says.
export class Resp {
  waiting = [];
  onLine = undefined; // where lines go that nobody asked for

  static async open(port) {
    const resp = new Resp();
    resp.socket = connect(port, '127.0.0.1');
    const splitter = new Splitter(value => {
      const asked = resp.waiting.shift();
      if (asked) asked(value);
      else resp.onLine?.(`${value}`);
    });
    resp.socket.on('data', chunk => splitter.feed(chunk));
    const failed = error => resp.waiting.splice(0).forEach(asked => asked(error));
    resp.socket.on('error', failed);
    resp.socket.on('close', () => failed(new Error('the connection is closed')));
    await new Promise((resolve, reject) => resp.socket.once('connect', resolve).once('error', reject));
    return resp;
  }

  // Resolves with the answer; with an Error where the Redis says one.
  ask(...words) {
    return new Promise(resolve => {
      if (this.socket.destroyed) return resolve(new Error('the connection is closed'));
      this.waiting.push(resolve);
      this.socket.write(command(words));
    });
  }

  close() {
    this.socket.destroy();
  }
}
