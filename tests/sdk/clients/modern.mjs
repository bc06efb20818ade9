// The scenarios before a server of 2026-07-28 only, as the TypeScript clients run them; `modern.py` holds the same ones under
// the same names. They come on top of those of `scenarios.mjs` and look at what such servers do in another way: what they
// tell unasked, what they mirror in headers, what becomes of results that old clients do not know, and what of all that
// reached the server (`GET /control`). What they ask of a client is in `rounds.mjs`.
import assert from 'node:assert/strict';
import { listening, noteOf, run, until } from './scenarios.mjs';

// The requests the server saw that carry the nonce.
export const seen = async (control, nonce) =>
  (await control('state')).requests.filter(({ params }) => JSON.stringify(params).includes(nonce));

const values = ['plain', 'Zürich 漢字 👩‍👩‍👧', ' padded ', '=?base64?AA==?=', '', 'two\r\nlines', '\ttab', 'a,b;c="d"', '\u007f'];
const counts = [42, 0, -7, 9007199254740991];

function mirrored(header) {
  const [, encoded] = header?.match(/^=\?base64\?(.*)\?=$/) ?? [];
  return encoded === undefined ? header : Buffer.from(encoded, 'base64').toString();
}

export const modern = {
  async instructions({ peer, dialect }) {
    assert.equal(peer.instructions(), dialect.instructions);
    assert.equal(peer.capabilities().resources.subscribe, true);
    assert.equal(peer.capabilities().tools.listChanged, true);
  },

  // Only who has asked for log messages gets any, and none below the level.
  async 'log-level'({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.url, nonce);
    const log = text => run(peer, { tool: 'log', args: { text }, reply: 'logged' }, nonce);
    await log(`before ${nonce}`);
    await peer.setLevel(dialect.log.level);
    await log(`after ${nonce}`);
    await until('the log message', () => noteOf(peer, 'notifications/message'));
    assert.deepEqual(
      peer.notes.filter(({ method }) => method === 'notifications/message').map(({ params }) => params.data),
      [`after ${nonce}`],
    );
    const levels = (await seen(control, nonce)).map(({ meta }) => meta['io.modelcontextprotocol/logLevel']);
    assert.deepEqual(levels, [undefined, dialect.log.level]);
    await peer.close();
  },

  // An update right after the answer to a subscription counts, and none counts after the subscription's end.
  async unsubscribe({ peer, dialect, nonce, control }) {
    const uri = `mem://note/${nonce}`;
    const touch = () => run(peer, { tool: 'touch', args: { uri }, reply: 'touched' }, nonce);
    const updates = () => peer.notes.filter(({ method, params }) => method.endsWith('/updated') && params.uri === uri).length;
    const subscribed = async () => JSON.stringify((await control('state')).listening).includes(uri);
    await peer.subscribe(uri);
    await touch();
    await until('the first update', updates);
    await peer.unsubscribe(uri);
    await until('the subscription to end upstream', async () => !(await subscribed()));
    const before = updates();
    await touch();
    await listening({ peer, dialect, nonce });
    assert.equal(updates(), before, 'updates after unsubscribing');
  },

  async 'one-call'({ peer, dialect, nonce, control }) {
    await run(peer, dialect.echo, `${nonce}-warm`);
    const { posts } = await control('state');
    for (let turn = 0; turn < 5; turn++) await run(peer, dialect.echo, `${nonce}-${turn}`);
    assert.equal((await control('state')).posts - posts, 5, 'requests upstream for five calls');
  },

  // Every argument that a tool wants in a header is there, as it is in the body; one call stays one request. An old client
  // need not have listed the tools before.
  async headers({ nonce, open, plan, control }) {
    const peer = await open(plan.url, nonce);
    if (plan.speaks) await peer.tools();
    const given = values.map((region, i) => {
      const args = { region, count: counts[i % counts.length], urgent: i % 2 === 0, place: { city: `${nonce}-${i}` } };
      return i % 3 === 0 ? { ...args, nothing: null } : args;
    });
    for (const args of given) {
      const { text, failed } = await peer.call('headers', args);
      assert.ok(!failed, text);
      assert.deepEqual(JSON.parse(text), { nothing: null, ...args });
    }
    const requests = await seen(control, nonce);
    const headers = requests.map(request => ({
      region: mirrored(request.headers['mcp-param-region']),
      count: Number(request.headers['mcp-param-count']),
      urgent: request.headers['mcp-param-urgent'] === 'true',
      place: { city: mirrored(request.headers['mcp-param-city']) },
    }));
    assert.deepEqual(headers, given.map(({ region, count, urgent, place }) => ({ region, count, urgent, place })));
    const left = requests.flatMap(request => Object.keys(request.headers)).filter(name => /nothing|absent/.test(name));
    assert.deepEqual(left, [], 'headers of arguments that are null or absent');
    await peer.close();
  },

  async 'hidden-tools'({ peer }) {
    const found = await peer.tools();
    assert.ok(found.includes('headers'), `${found}`);
    assert.ok(!found.includes('bad-header'), 'a tool with an invalid x-mcp-header was listed');
  },

  // After the list, from which some SDKs learn what to hold a result against.
  async 'odd-results'({ peer, dialect }) {
    assert.ok((await peer.tools()).includes('list-names'));
    const { text, failed } = await peer.call('list-names', {});
    assert.ok(!failed, text);
    assert.equal(text, dialect.names);
  },

  async 'missing-resource'({ peer, nonce, plan }) {
    const error = await peer.read(`mem://nowhere/${nonce}`).then(
      text => assert.fail(`read ${text}`),
      failed => failed,
    );
    assert.equal(error.code, plan.speaks === '2026-07-28' ? -32602 : -32002, error.message);
  },

  // Read off the wire between client and ferry: nothing reaches an old client that only the new revision knows.
  async 'plain-results'({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.cuttable, nonce);
    await peer.tools();
    await peer.prompts();
    await peer.resources();
    await peer.read(dialect.resource.uri);
    await peer.prompt(dialect.prompt.name, { name: nonce });
    await peer.subscribe(dialect.subscribe.uri);
    await listening({ peer, dialect, nonce });
    await run(peer, dialect.echo, nonce);
    const { wire } = await control('wire');
    assert.ok(wire.includes(nonce), 'the wire was not watched');
    const words = ['resultType', 'ttlMs', 'cacheScope', 'io.modelcontextprotocol/', 'requestState', 'subscriptions/'];
    assert.deepEqual(words.filter(word => wire.includes(word)), []);
    await peer.close();
  },
};

// Before a server of both eras.
export const dual = {
  async 'stays-in-handshake'({ peer, dialect, nonce, control }) {
    await run(peer, dialect.echo, nonce);
    const { eras } = await control('state');
    assert.ok(eras.handshake > 0, 'the server was not asked');
    assert.equal(eras.modern, 0, 'requests of the modern era');
  },
};

// A server that is upgraded to 2026-07-28 and rolled back, under a ferry and a client that go on. Only a session that was
// passed through is the old server's own and ends with it.
export const changing = {
  async upgrade({ peer, dialect, nonce, open, plan, control }) {
    const passed = plan.client.endsWith('-http');
    await run(peer, dialect.echo, nonce);
    for (const server of ['ts2.4-modern', 'py1.30-stateful-sse']) {
      await control(`become/${server}`);
      // Whoever comes first may be the one by whose refusal the ferry learns of the change.
      const again = () => open(plan.url, nonce);
      const now = passed ? await again().catch(again) : peer;
      await run(now, dialect.echo, `${nonce} ${server}`);
      await listening({ peer: now, dialect, nonce });
      if (plan.asks === 'elicit') await run(now, dialect.elicit, `${nonce} ${server}`);
      if (passed) await now.close();
    }
  },
};
