// The faults of the soak: what each does, and how often it is drawn.
import { pause } from './random.mjs';
import { slowReader } from './raw.mjs';

// A cut that hits a session's beginning or end can leave that session behind upstream: the ferry never learnt its name,
// or could not say goodbye. Such cuts are counted, as a bound for what may be left over.
const excuse = (lane, pair) => {
  if (/^DELETE|initialize/.test(pair.request)) lane.excused = (lane.excused ?? 0) + 1;
};

const ways = { rst: pair => pair.reset(), fin: pair => pair.finish() };

// Harms one connection to the upstream, where there is any.
const one =
  way =>
  ({ random, lane }) => {
    const pairs = lane.relay.list('all');
    if (!pairs.length) return false;
    const pair = random.pick(pairs);
    excuse(lane, pair);
    way(pair);
  };

export const faults = {
  'upstream: one connection reset': { weight: 14, run: one(ways.rst) },
  'upstream: one connection ended': { weight: 8, run: one(ways.fin) },
  'upstream: reset after N bytes': {
    weight: 12,
    run({ random, lane }) {
      lane.relay.budgets.push(random.between(1, 4000));
      // Whichever connection gets it may carry a session's beginning or end.
      lane.excused = (lane.excused ?? 0) + 1;
    },
  },
  'upstream: every connection reset': {
    weight: 2,
    run({ lane }) {
      for (const pair of lane.relay.list('all')) (excuse(lane, pair), pair.reset());
    },
  },
  'upstream: stall': {
    weight: 6,
    run({ random, lane }) {
      const ms = random.between(500, 6000);
      for (const pair of lane.relay.list('all')) if (random.next() < 0.5) pair.stall(ms);
    },
  },
  'upstream: latency': {
    weight: 6,
    run({ random, lane }) {
      const most = random.between(5, 150);
      lane.relay.latency = () => random.between(0, most);
      setTimeout(() => (lane.relay.latency = undefined), random.between(500, 4000));
    },
  },
  'upstream: kill -9 and restart': {
    weight: 3,
    async run({ lane }) {
      if (lane.restarting) return false;
      lane.restarting = true;
      await lane.restartServer().finally(() => (lane.restarting = false));
    },
  },
  'client: stream cut': {
    weight: 8,
    run: ({ random, worker, slot }) => worker.harm(slot, 'stream', ways[random.pick(['rst', 'fin'])]),
  },
  'client: posts cut': {
    weight: 6,
    run: ({ random, worker, slot }) => worker.harm(slot, 'post', ways[random.pick(['rst', 'fin'])]),
  },
  'client: everything cut': { weight: 4, run: ({ worker, slot }) => worker.harm(slot, 'all', ways.rst) },
  'client: stall': {
    weight: 6,
    run({ random, worker, slot }) {
      const ms = random.between(300, 4000);
      // Posts of these clients fail when they stall longer than the clients wait, so that is told as a cut of posts.
      return worker.harm(slot, 'post', pair => pair.stall(ms));
    },
  },
  'client: stream stall': {
    weight: 6,
    run({ random, worker, slot }) {
      const ms = random.between(300, 4000);
      for (const pair of worker.relays[slot].list('stream')) pair.stall(ms);
    },
  },
  'client: latency': {
    weight: 5,
    run({ random, worker, slot }) {
      const relay = worker.relays[slot];
      const most = random.between(5, 120);
      relay.latency = () => random.between(0, most);
      setTimeout(() => (relay.latency = undefined), random.between(500, 4000));
    },
  },
  'client: kill -9': {
    weight: 2,
    async run({ worker }) {
      if (worker.killing) return false;
      worker.killing = true;
      await worker.kill();
      await pause(200);
      worker.spawn();
      worker.killing = false;
    },
  },
  'client: reads a byte a second': {
    weight: 3,
    // The kernel holds some megabytes for it, the ferry some more, and then its upstream reads wait.
    async run({ random, lane, ledger, stopped }) {
      const home = {};
      const worker = { client: 'slow reader' };
      const called = call => ledger.hear({ call, tool: 'big' }, worker, home);
      const options = { count: random.between(12, 24), size: 900_000, called, stopped };
      const how = await slowReader(lane.ferry.port, options).catch(() => 'not opened');
      ledger.slow[how] = (ledger.slow[how] ?? 0) + 1;
      // It reads too slowly for any answer: its calls end with its stream.
      for (const [end, call] of ledger.calls)
        if (call.home === home && !call.outcome) ledger.ended({ end, outcome: 'stream-ended' });
    },
  },
};
