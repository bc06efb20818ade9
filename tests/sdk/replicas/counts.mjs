// What a POST costs the Redis, as MONITOR and its own statistics say: nothing on the owner, two scripts elsewhere.
import { check, shown } from '../soak/report.mjs';
import { Fleet, PATIENT } from './fleet.mjs';
import { call, open } from './wire.mjs';

const POSTS = 60;
const AT_ONCE = 30;

// A line of MONITOR: what the Redis was asked, and whether a script of its own asked.
function read(line) {
  const [, from, text] = line.match(/^\S+ \[\d+ (\S+?)\] (.*)$/) ?? [];
  const words = [...(text ?? '').matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, word]) => word);
  return { name: words[0]?.toLowerCase(), words, byScript: from === 'lua' };
}

// What was asked from outside, by what it is for.
export function sort(lines) {
  const counts = { scripts: 0, heartbeats: 0, reads: 0, deletions: 0, others: 0 };
  const others = {};
  for (const line of lines) {
    const { name, words, byScript } = read(line);
    if (byScript || name === undefined) continue;
    if (/^eval(sha)?$/.test(name)) counts[words.length === 9 ? 'scripts' : 'heartbeats']++;
    else if (name === 'xread') counts.reads++;
    else if (name === 'xdel') counts.deletions++;
    else (counts.others++, (others[name] = (others[name] ?? 0) + 1));
  }
  return { ...counts, names: others };
}

async function watched(fleet, run) {
  const monitor = await fleet.redis.monitor();
  const before = await fleet.redis.info('commandstats');
  const begun = Date.now();
  await run();
  const after = await fleet.redis.info('commandstats');
  const calls = name =>
    Number(/calls=(\d+)/.exec(after[`cmdstat_${name}`])?.[1] ?? 0) -
    Number(/calls=(\d+)/.exec(before[`cmdstat_${name}`])?.[1] ?? 0);
  monitor.stop();
  const asked = sort(monitor.lines);
  return {
    asked,
    entries: calls('xadd'),
    evaluated: calls('evalsha') + calls('eval'),
    seconds: (Date.now() - begun) / 1000,
  };
}

export async function counts(lane, work) {
  const fleet = await (await Fleet.start(lane, work, ['a', 'b'], { flags: PATIENT })).warm();
  const client = await open(fleet.a.port);
  const one = async port => {
    const made = call(client, port);
    const { status } = await made.posted;
    return status === 202 && (await made.outcome) === 'result';
  };
  const results = { local: 0, remote: 0, burst: 0 };
  const series = async (port, what) => {
    for (let n = 0; n < POSTS; n++) if (await one(port)) results[what]++;
  };
  const local = await watched(fleet, () => series(fleet.a.port, 'local'));
  const remote = await watched(fleet, () => series(fleet.b.port, 'remote'));
  const burst = await watched(fleet, async () => {
    const all = await Promise.all(Array.from({ length: AT_ONCE }, () => one(fleet.b.port)));
    results.burst = all.filter(Boolean).length;
  });
  // A replica beats every 2 s, with two scripts, and waits at its inbox for 5 s at a time.
  const beats = ({ seconds }) => 2 * 2 * (Math.floor(seconds / 2) + 2);
  const waits = ({ seconds }) => 2 * (Math.floor(seconds / 5) + 2);
  const tell = ({ asked: { names, ...asked }, seconds }) => `${shown(asked)}; ${shown(names)}; ${seconds.toFixed(1)} s`;
  check('all posts had their results', results.local + results.remote === 2 * POSTS && results.burst === AT_ONCE);
  const { asked } = local;
  check(
    `${POSTS} posts to the owner: no script and no entry, only heartbeats and waits`,
    asked.scripts === 0 && local.entries === 0 && asked.heartbeats <= beats(local) && asked.reads <= waits(local),
    tell(local),
  );
  check(
    `${POSTS} posts to another: two scripts each`,
    remote.asked.scripts === 2 * POSTS && remote.entries === 2 * POSTS,
    tell(remote),
  );
  // The connection says PING or so of its own at most.
  check(
    'and besides them one look into an inbox per entry at most, and its removal',
    remote.asked.reads <= 2 * POSTS + waits(remote) && remote.asked.deletions <= 2 * POSTS && remote.asked.others <= 4,
    tell(remote),
  );
  check(
    `${AT_ONCE} at once: two scripts each, and looks are shared`,
    burst.asked.scripts === 2 * AT_ONCE && burst.asked.reads <= 2 * AT_ONCE + waits(burst),
    tell(burst),
  );
  check(
    'the statistics say the same as the monitor',
    burst.evaluated === burst.asked.scripts + burst.asked.heartbeats &&
      remote.evaluated === remote.asked.scripts + remote.asked.heartbeats,
    `${burst.evaluated} and ${remote.evaluated}`,
  );
  // What a replica counts of itself is what was seen.
  const [a, b] = await Promise.all([fleet.a.metrics(), fleet.b.metrics()]);
  check(
    'the metrics say how many crossed',
    b.handed('answered') >= POSTS + AT_ONCE && a.taken('request') >= POSTS + AT_ONCE,
    `${b.handed('answered')} handed over, ${a.taken('request')} taken over`,
  );
  client.socket.destroy();
  const how = await fleet.stop();
  check(
    'the ferries end with 0',
    how.every(code => code === 0),
    `${how}`,
  );
}
