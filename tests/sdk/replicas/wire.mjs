// Posts by hand, to a replica of choice: what they are answered, and when; and what then comes on the client's stream.
import { randomUUID } from 'node:crypto';
import { request } from 'node:http';
import { pause } from '../soak/random.mjs';
import { RawClient } from '../soak/raw.mjs';

// One POST on a connection of its own. The status is 0 when the connection ended without one.
export function post(port, path, message, { headers = {}, limit = 30_000, agent = false } = {}) {
  const body = Buffer.isBuffer(message) ? message : Buffer.from(JSON.stringify(message));
  const begun = performance.now();
  return new Promise(resolve => {
    const done = answer => resolve({ ...answer, ms: performance.now() - begun });
    const asked = request(
      {
        host: '127.0.0.1',
        port,
        path,
        agent,
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': body.length, ...headers },
        timeout: limit,
      },
      response => {
        const chunks = [];
        response.on('data', chunk => chunks.push(chunk));
        response.on('error', () => done({ status: 0 }));
        response.on('end', () =>
          done({ status: response.statusCode, headers: response.headers, text: `${Buffer.concat(chunks)}` }),
        );
      },
    );
    asked.on('timeout', () => asked.destroy());
    asked.on('error', () => done({ status: 0 }));
    asked.end(body);
  });
}

// A tool call of a client, posted to the replica at `port`, whatever comes of it. Its nonce is in the upstream's log when it
// was executed. `posted` resolves with how the POST was answered, `outcome` with what came on the stream; never when
// nothing does.
export function call(client, port, { tool = 'echo', args = {}, nonce = randomUUID(), ...options } = {}) {
  const id = client.id++;
  const params = { name: tool, arguments: { key: nonce, ...args } };
  const made = { nonce };
  made.outcome = new Promise(resolve => client.waiting.set(id, resolve)).then(outcome => {
    const own = outcome.outcome !== 'result' || outcome.message.result.content[0].text === nonce;
    return (made.ended = own ? outcome.outcome : 'wrong');
  });
  const sent = post(port, client.path, { jsonrpc: '2.0', id, method: 'tools/call', params }, options);
  made.posted = sent.then(answer => (made.answer = answer));
  return made;
}

export const within = (ms, promise, otherwise) => Promise.race([promise, pause(ms).then(() => otherwise)]);

export const open = (port, headers) => RawClient.open(port, { capabilities: { sampling: {} }, headers });
