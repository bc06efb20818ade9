// Scenarios before a server of 2026-07-28 only: what it wants to know of the client before it answers, which an old client is
// asked by the ferry. `rounds.py` holds the same ones under the same names.
import assert from 'node:assert/strict';
import { seen } from './modern.mjs';
import { run, until } from './scenarios.mjs';

// What a call that must fail says, as an error or as a result that is marked as one.
async function failure(peer, tool, text) {
  const reply = await peer.call(tool, { text }).catch(error => ({ failed: true, text: error.message }));
  assert.ok(reply.failed, `${tool} answered ${reply.text}`);
  return reply.text;
}

export const rounds = {
  async 'elicit-twice'({ peer, nonce, control }) {
    const reply = 'answer to first $ / answer to second $';
    await run(peer, { tool: 'elicit-twice', args: { text: '$' }, reply }, nonce);
    const rounds = await seen(control, nonce);
    assert.equal(rounds.length, 3, 'requests upstream');
    assert.equal(new Set(rounds.map(({ id }) => id)).size, 3, 'ids');
    const [first, second, third] = rounds.map(({ params }) => params);
    assert.equal(first.requestState ?? first.inputResponses, undefined);
    assert.deepEqual(second.inputResponses, { one: { action: 'accept', content: { answer: `answer to first ${nonce}` } } });
    assert.deepEqual(Object.keys(third.inputResponses), ['other']);
    assert.notEqual(second.requestState, third.requestState);
  },

  async 'many-inputs'({ peer, nonce, control }) {
    const text = `inputs ${nonce}`;
    const reply = `answer to ${text} / sampled ${text} / ["file:///rig/${peer.nonce}"]`;
    await run(peer, { tool: 'survey', args: { text }, reply }, nonce);
    assert.equal((await seen(control, nonce)).length, 2, 'requests upstream');
  },

  async 'rounds-at-once'({ peer, dialect, nonce }) {
    const calls = [1, 2, 3].map(async turn => {
      const text = `${nonce}-${turn}`;
      const reply = `answer to ${text} / sampled ${text} / ["file:///rig/${peer.nonce}"]`;
      await run(peer, { tool: 'survey', args: { text }, reply }, nonce);
    });
    await Promise.all([...calls, run(peer, dialect.echo, nonce)]);
  },

  // A call tells of its progress before it asks and after it has been answered: to its caller, it is one call.
  async 'progress-in-rounds'({ peer, nonce }) {
    const seen = [];
    let released;
    const onprogress = ({ progress }) => {
      seen.push(progress);
      if (progress === 2) released = run(peer, { tool: 'release', args: { key: '$' } }, nonce);
    };
    await run(peer, { tool: 'working', args: { text: '$' }, reply: 'answer to $' }, nonce, { onprogress });
    await released;
    assert.deepEqual(seen, [1, 2]);
  },

  // No server holds a round: another one can take the answer.
  async 'restart-mid-round'({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.url, nonce);
    const held = `hold ${nonce}`;
    const reply = plan.asks === 'elicit' ? `answer to ${held}` : `sampled ${held}`;
    const call = run(peer, { tool: plan.asks, args: { text: held }, reply }, nonce);
    await until('the client to be asked', () => peer.user.asked.includes(held));
    await control('restart');
    peer.user.letGo();
    await call;
    await peer.close();
  },

  // A state and no question: the call is repeated without troubling the client.
  async 'state-only'({ peer, nonce, control }) {
    const asked = peer.user.asked.length;
    await run(peer, { tool: 'later', args: { text: '$' }, reply: '$' }, nonce);
    assert.equal((await seen(control, nonce)).length, 2, 'requests upstream');
    assert.equal(peer.user.asked.length, asked);
  },

  async 'prompt-asks'({ peer, nonce }) {
    assert.equal(await peer.prompt('asks', { text: nonce }), `answer to ${nonce}`);
  },

  async 'resource-asks'({ peer, nonce }) {
    assert.equal(await peer.read(`mem://asks/${nonce}`), `answer to ${nonce}`);
  },

  // The revision before wanted an id with it, and a handler that finds none refuses.
  async 'elicit-by-url'({ nonce, open, plan }) {
    const peer = await open(plan.url, nonce, { byUrl: true });
    await run(peer, { tool: 'elicit-url', args: { text: '$' }, reply: 'accept' }, nonce);
    assert.deepEqual(peer.user.asked, [nonce, `https://example.com/${nonce}`]);
    await peer.close();
  },

  async 'elicit-declined'({ peer, nonce }) {
    for (const action of ['decline', 'cancel']) {
      await run(peer, { tool: 'elicit', args: { text: `${action} $` }, reply: action }, nonce);
    }
  },

  // The revision has no place for a client's error: an elicitation that fails is one that was cancelled, and a sampling
  // that fails fails the call, with the client's own words.
  async 'elicit-fails'({ peer, nonce }) {
    await run(peer, { tool: 'elicit', args: { text: 'refuse $' }, reply: 'cancel' }, nonce);
  },

  async 'sampling-fails'({ peer, dialect, nonce }) {
    assert.match(await failure(peer, 'sample', `refuse ${nonce}`), /the rig refuses/);
    await run(peer, dialect.echo, nonce);
  },

  async 'cannot-elicit'({ dialect, nonce, open, plan }) {
    const peer = await open(plan.url, nonce, { bare: true });
    assert.match(await failure(peer, 'elicit', nonce), /elicitation/i);
    assert.match(await failure(peer, 'sample', nonce), /sampling/i);
    await run(peer, dialect.echo, nonce);
    await peer.close();
  },

  async 'cancel-mid-round'({ peer, dialect, nonce, plan, control }) {
    const stop = new AbortController();
    const held = `hold ${nonce}`;
    const outcome = peer.call(plan.asks, { text: held }, { signal: stop.signal }).then(
      reply => `answered ${reply.text}`,
      () => 'rejected',
    );
    await until('the client to be asked', () => peer.user.asked.includes(held));
    stop.abort('the rig changed its mind');
    assert.equal(await outcome, 'rejected');
    // The cancel and the late answer are POSTs on two sockets: without a call between them either may come first.
    await run(peer, dialect.echo, `${nonce}-echo`);
    peer.user.letGo();
    await run(peer, dialect.echo, `${nonce}-echo`);
    assert.deepEqual((await seen(control, held)).map(({ state }) => state), ['ended'], 'requests upstream');
  },

  async 'leave-mid-round'({ dialect, nonce, open, plan, control }) {
    const peer = await open(plan.url, nonce);
    const held = `hold ${nonce}`;
    const outcome = peer.call(plan.asks, { text: held }).catch(() => 'gone');
    await until('the client to be asked', () => peer.user.asked.includes(held));
    await peer.close();
    assert.equal(await outcome, 'gone');
    peer.user.letGo();
    const other = await open(plan.url, nonce);
    await run(other, dialect.echo, `${nonce}-echo`);
    await other.close();
    assert.equal((await seen(control, held)).length, 1, 'requests upstream');
  },
};
