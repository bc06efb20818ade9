// The scenarios as the TypeScript clients run them; `scenarios.py` holds the same ones under the same
// names. What differs between servers (names of tools, texts of replies) comes from the plan's dialect,
// see `driver/peers.mjs`; what cannot apply to a pair is left out by `driver/applicable.mjs`.
import assert from 'node:assert/strict';

export const big = Array.from({ length: 100_000 }, (_, i) => String(i).padStart(9, '0') + ';').join('');

export async function until(what, check, seconds = 20) {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s for ${what}`);
    await new Promise(resolve => setTimeout(resolve, 25));
  }
}

// Replaces `$` (the call's own nonce) and `$BIG` inside a dialect's arguments and replies.
export const fill = (value, nonce) =>
  JSON.parse(JSON.stringify(value).replaceAll('$BIG', big).replaceAll('$', () => JSON.stringify(nonce).slice(1, -1)));

function expectReply(text, step, nonce) {
  if (step.contains !== undefined) {
    const wanted = fill(step.contains, nonce);
    assert.ok(text.includes(wanted), `reply ${JSON.stringify(text.slice(0, 300))} lacks ${JSON.stringify(wanted)}`);
    return;
  }
  const wanted = fill(step.reply, nonce);
  // Not assert.equal: a difference in a megabyte should not print a megabyte.
  assert.ok(text === wanted, `reply is ${text.length} characters ${JSON.stringify(text.slice(0, 120))}, wanted ${wanted.length}`);
}

export async function run(peer, step, nonce, options) {
  const reply = await peer.call(step.tool, fill(step.args ?? {}, nonce), options);
  assert.equal(reply.failed, step.failed ?? false, `isError, reply ${JSON.stringify(reply.text.slice(0, 300))}`);
  if (step.reply !== undefined || step.contains !== undefined) expectReply(reply.text, step, nonce);
  return reply.text;
}

export const noteOf = (peer, method, matches = () => true) =>
  peer.notes.find(note => note.method === method && matches(note.params ?? {}));

// The listen stream opens some time after the handshake, and what a server says before is lost; so the
// server is asked for a list_changed again and again until one arrives.
export async function listening({ peer, dialect, nonce }) {
  const { trigger, method } = dialect.listChanged;
  const count = () => peer.notes.filter(note => note.method === method).length;
  const before = count();
  for (let attempt = 0; ; attempt++) {
    await run(peer, trigger, `${nonce}-${attempt}`);
    try {
      return await until(method, () => count() > before, 1);
    } catch (error) {
      if (attempt === 9) throw error;
    }
  }
}

export const scenarios = {
  async initialize({ peer, dialect, plan }) {
    assert.equal(peer.serverInfo().name, dialect.server);
    assert.ok(peer.capabilities().tools, 'no tools capability');
    // The old transport answers with the version asked for, whatever was agreed upstream.
    if (peer.version() !== undefined && !plan.asksItself) assert.equal(peer.version(), peer.asked);
  },

  async tools({ peer, dialect }) {
    const found = await peer.tools();
    for (const name of dialect.tools) assert.ok(found.includes(name), `${name} not in ${found}`);
  },
  async prompts({ peer, dialect }) {
    const found = await peer.prompts();
    assert.ok(found.includes(dialect.prompt.name), `${found}`);
  },
  async resources({ peer, dialect }) {
    const found = await peer.resources();
    assert.ok(found.includes(dialect.resource.uri), `${found}`);
    assert.match(await peer.read(dialect.resource.uri), new RegExp(dialect.resource.matches));
  },

  async 'call-text'({ peer, dialect, nonce }) {
    await run(peer, dialect.echo, nonce);
    await run(peer, dialect.add, nonce);
  },
  async 'call-unicode'({ peer, dialect }) {
    await run(peer, dialect.echo, 'żółć 漢字 👩‍👩‍👧 \u2028\u2029\u0085 "\\" \r\n\t\u0001 ￿');
  },
  async 'call-1mb'({ peer, dialect, nonce }) {
    await run(peer, dialect.big, nonce);
  },
  async 'call-error'({ peer, dialect, nonce }) {
    await run(peer, { ...dialect.fail, failed: true }, nonce);
  },

  async progress({ peer, dialect, nonce }) {
    const { release } = dialect.progress;
    const seen = [];
    let released;
    // Our servers hold the result back until the last update has been seen here: an update and a result
    // that arrive in one piece make the TypeScript SDKs drop the update.
    const onprogress = ({ progress }) => {
      seen.push(progress);
      if (progress === 3 && release) released = run(peer, { tool: release, args: { key: '$' } }, nonce);
    };
    await run(peer, dialect.progress, nonce, { onprogress });
    await released;
    assert.deepEqual(seen.slice(0, 3), [1, 2, 3]);
  },
  async logging({ peer, dialect, nonce, control }) {
    const { level, tool, args, contains, undo } = dialect.log;
    await peer.setLevel(level);
    const state = await control('state');
    if (state.level !== undefined) assert.equal(state.level, level, 'the level the server was told');
    await run(peer, { tool, args }, nonce);
    const wanted = fill(contains, nonce);
    await until('the log message', () =>
      noteOf(peer, 'notifications/message', params => JSON.stringify(params.data).includes(wanted)),
    );
    if (undo) await run(peer, { tool }, nonce);
  },

  async sampling({ peer, dialect, nonce }) {
    await run(peer, dialect.sample, nonce);
  },
  async elicitation({ peer, dialect, nonce }) {
    await run(peer, dialect.elicit, nonce);
  },
  async roots(context) {
    await listening(context);
    await run(context.peer, context.dialect.roots, context.peer.nonce);
  },

  async subscribe({ peer, dialect, nonce }) {
    const { uri, trigger, undo } = dialect.subscribe;
    await peer.subscribe(uri);
    await listening({ peer, dialect, nonce });
    const reply = await run(peer, trigger, nonce);
    await until('resources/updated', () => noteOf(peer, 'notifications/resources/updated', params => params.uri === uri));
    if (undo) await run(peer, trigger, nonce);
    else assert.equal(await peer.read(uri), reply, 'the resource after the update');
  },
  'list-changed': context => listening(context),

  async prompt({ peer, dialect, nonce }) {
    const { name, args, reply } = dialect.prompt;
    expectReply(await peer.prompt(name, fill(args, nonce)), { reply }, nonce);
  },
  async completion({ peer, dialect }) {
    const { prompt, argument, value, values } = dialect.completion;
    assert.deepEqual(await peer.complete(prompt, argument, value), values);
  },
  async 'ping-server'({ peer }) {
    assert.deepEqual(Object.keys(await peer.ping()).filter(key => key !== '_meta' && key !== 'resultType'), []);
  },
  async 'ping-client'(context) {
    await listening(context);
    await run(context.peer, { tool: 'ping', reply: 'pong' }, context.nonce);
  },

  async cancel({ peer, dialect, nonce, control }) {
    const stop = new AbortController();
    const outcome = peer.call('slow', { key: nonce }, { signal: stop.signal }).then(
      reply => `answered ${reply.text}`,
      () => 'rejected',
    );
    await until('the call to begin', async () => (await control('state')).running.includes(nonce));
    stop.abort('the rig changed its mind');
    await until('the server to see the cancel', async () => (await control('state')).cancelled.includes(nonce));
    assert.equal(await outcome, 'rejected');
    await run(peer, dialect.echo, nonce);
  },

  // The reply's stream is closed by the server before the answer; the client must never notice.
  async 'early-close'({ peer, nonce }) {
    await run(peer, { tool: 'early', args: { text: '$' }, reply: '$' }, nonce);
  },

  // Twenty fresh clients that send the same methods under the same ids at the same time.
  async crowd({ dialect, nonce, open, plan }) {
    const own = Array.from({ length: 20 }, (_, i) => `${nonce}-${i}`);
    const peers = await Promise.all(own.map(mine => open(plan.url, mine)));
    const work = peers.map(async (peer, i) => {
      const calls = [0, 1, 2].map(turn => run(peer, dialect.echo, `${own[i]}-${turn}`));
      if (plan.scenarios.includes('sampling')) calls.push(run(peer, dialect.sample, own[i]));
      await Promise.all(calls);
    });
    const failed = (await Promise.allSettled(work)).filter(({ status }) => status === 'rejected');
    await Promise.all(peers.map(peer => peer.close()));
    if (failed.length) throw new Error(`${failed.length} of 20 failed, the first with: ${failed[0].reason.message}`);
  },

  async leave({ dialect, nonce, open, plan, control }) {
    const before = new Set((await control('state')).sessions);
    const peer = await open(plan.url, nonce);
    await run(peer, dialect.echo, nonce);
    // A listen stream, which is all of a session that a modern server has, opens some time after the handshake.
    const added = async () => (await control('state')).sessions.filter(id => !before.has(id));
    await until('a session more at the server', async () => (await added()).length);
    const mine = await added();
    assert.equal(mine.length, 1, `the server should have one session more, not ${mine.length}`);
    await peer.close();
    await until('the session to end upstream', async () => !(await control('state')).sessions.includes(mine[0]));
  },

  // Whoever leaves takes the calls still running along.
  async 'leave-mid-call'({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.url, nonce);
    const outcome = peer.call(dialect.slow.tool, fill(dialect.slow.args, nonce)).catch(() => 'gone');
    await until('the call to begin', async () => (await control('state')).running.includes(nonce));
    await peer.close();
    await until('the call to end upstream', async () => (await control('state')).cancelled.includes(nonce));
    await outcome;
  },

  // The SDK reconnects by itself but never initializes again; the first call on the new stream must work.
  async reconnect({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.cuttable, nonce);
    await run(peer, dialect.echo, nonce);
    const old = peer.endpoint();
    peer.sent.length = 0;
    const { cut } = await control('cut');
    assert.ok(cut > 0, 'there was no connection to cut');
    await until('the client to take up a new stream', () => peer.endpoint() !== old);
    await run(peer, dialect.echo, `${nonce}-again`);
    assert.deepEqual(peer.sent, ['tools/call']);
    await peer.close();
  },

  async restart({ peer, dialect, nonce, control, plan }) {
    const running = async () => (await control('state')).running;
    const observable = (await running()) !== undefined;
    let lost;
    peer.call(dialect.slow.tool, fill(dialect.slow.args, nonce)).then(
      reply => (lost = `answered ${reply.text}`),
      () => (lost = 'failed'),
    );
    if (observable) await until('the call to begin', async () => (await running()).includes(nonce));
    else await run(peer, dialect.echo, nonce);
    await control('restart');
    // The call that ran when the server died fails, well before the SDK's own 60 s, and for good: nobody may
    // run it a second time.
    await until('the lost call to end', () => lost);
    assert.equal(lost, 'failed');
    await run(peer, dialect.echo, `${nonce}-again`);
    if (observable) assert.ok(!(await running()).includes(nonce), 'the lost call was run again');
    if (plan.pushes) await listening({ peer, dialect, nonce: `${nonce}-after` });
  },
};
