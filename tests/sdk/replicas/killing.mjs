// Who may die, or stand still, at which moment of a hand-over: sender, owner and Redis, before the entry is in the owner's
// inbox, after, before the acknowledgement and after. Of every call it is said what its poster was told, whether it was
// executed, and what came on the stream.
import { readFileSync } from 'node:fs';
import { pause } from '../soak/random.mjs';
import { check, until } from '../soak/report.mjs';
import { Fleet, isReady } from './fleet.mjs';
import { ANSWER, REQUEST, found, puts } from './gate.mjs';
import { call, open, within } from './wire.mjs';

const AT_ONCE = 4;
// No acknowledgement is waited for longer than 5 s.
const NO_ACK_MS = 6500;
const UNREACHABLE_MS = 2500;
// For so long the Redis must have been there before a silence proves anything.
const STEADY_MS = 21_000;

// Where each moment is held: by whose gate, on which way, and what.
const MOMENTS = {
  'before the hand-over': { gate: 'b', way: 'commands', match: puts(REQUEST) },
  'after the hand-over': { gate: 'a', way: 'answers', match: found },
  'before the acknowledgement': { gate: 'a', way: 'commands', match: puts(ANSWER) },
  'after the acknowledgement': { gate: 'b', way: 'answers', match: found },
};
const [BEFORE, AFTER, BEFORE_ACK, AFTER_ACK] = Object.keys(MOMENTS);

// `posted`: statuses the poster may be told, 0 when its connection broke; `executed`: how often, at least and at most;
// `stream`: what the client hears, or `nothing` where it was told that its post failed. A stop is for so many seconds.
// `steady`: not before the Redis was there for long enough to prove that an owner is gone.
const CELLS = [
  { who: 'sender', at: BEFORE, posted: [0], executed: [0, 0], stream: ['nothing'] },
  { who: 'sender', at: AFTER, posted: [0], executed: [1, 1], stream: ['result'] },
  { who: 'sender', at: BEFORE_ACK, posted: [0], executed: [1, 1], stream: ['result'] },
  { who: 'sender', at: AFTER_ACK, posted: [0], executed: [1, 1], stream: ['result'] },
  { who: 'owner', at: BEFORE, posted: [404, 503], executed: [0, 0], stream: ['stream-ended'] },
  { who: 'owner', at: AFTER, posted: [404, 503], executed: [0, 0], stream: ['stream-ended'] },
  { who: 'owner', at: BEFORE_ACK, posted: [404, 503], executed: [0, 1], stream: ['stream-ended', 'result'] },
  { who: 'owner', at: BEFORE, steady: true, posted: [404], executed: [0, 0], stream: ['stream-ended'] },
  { who: 'owner', at: AFTER_ACK, posted: [202], executed: [0, 1], stream: ['stream-ended', 'result'] },
  { who: 'redis', at: BEFORE, posted: [503], executed: [0, 0], stream: ['nothing'], ms: UNREACHABLE_MS },
  { who: 'redis', at: AFTER, posted: [503], executed: [0, 0], stream: ['nothing'] },
  { who: 'redis', at: BEFORE_ACK, posted: [202, 503], executed: [1, 1], stream: ['result'] },
  { who: 'redis', at: AFTER_ACK, posted: [503], executed: [1, 1], stream: ['result'] },
  // Standing still shorter than anybody waits changes nothing.
  { who: 'owner', at: BEFORE, stop: 2, posted: [202], executed: [1, 1], stream: ['result'] },
  { who: 'redis', at: BEFORE_ACK, stop: 2, posted: [202], executed: [1, 1], stream: ['result'] },
  // Longer: the entry is too old when it is read, or is carried out too late.
  { who: 'owner', at: BEFORE, stop: 12, posted: [503], executed: [0, 0], stream: ['nothing'] },
  { who: 'redis', at: BEFORE, stop: 3, posted: [503], executed: [0, 0], stream: ['nothing'], ms: UNREACHABLE_MS },
  { who: 'sender', at: AFTER_ACK, stop: 7, posted: [202, 503], executed: [1, 1], stream: ['result'] },
];

const nameOf = ({ who, at, stop, steady }) =>
  `${who} ${stop ? `stands still for ${stop} s` : 'killed'} ${at}${steady ? ', before a steady Redis' : ''}`;

// Lets it happen. Resolves when it is over: a Redis that was killed is there again, empty, and who stood still goes on.
async function harm(fleet, { who, stop }, hold) {
  const victim = { sender: fleet.b, owner: fleet.a, redis: fleet.redis }[who];
  if (stop) {
    victim.signal('SIGSTOP');
    // Its threads stop one after another; one that is quick would take what is let go now.
    await pause(100);
    hold.release();
    await pause(stop * 1000);
    victim.signal('SIGCONT');
  } else if (who === 'redis') {
    await victim.kill();
    hold.release();
    await pause(1000);
    await victim.begin();
  } else {
    await victim.end('SIGKILL');
    hold.release();
  }
}

// What the poster and the client came to know, both being given the time that they may need.
async function outcome(made, { stop = 0 }) {
  const answer = await within(NO_ACK_MS + stop * 1000, made.posted, { status: 'nothing' });
  return { answer, stream: await within(3000, made.outcome, 'nothing') };
}

async function goesOn(fleet, client, { who, stop, steady }) {
  const killed = stop ? undefined : who;
  const works = async port => {
    const { status, headers } = await call(client, port).posted;
    return status === 202 || (status === 503 && headers['retry-after'] ? undefined : false);
  };
  if (killed === 'owner') {
    // A Redis that was there for 20 s proves it to whoever waited 5 s for an answer. Before that the heartbeat has to run
    // out, 15 s, and is looked for 6 s more.
    const begun = Date.now();
    const told = await until(steady ? 7 : 25, async () => (await call(client, fleet.b.port).posted).status === 404);
    return [told, `a post for the dead one gets 404 after ${((Date.now() - begun) / 1000).toFixed(1)} s`];
  }
  if ((await call(client, fleet.a.port).posted).status !== 202) return [false, 'a post to the owner fails'];
  if (killed === 'sender') return [true, 'the owner goes on'];
  const again = await until(12, () => works(fleet.b.port));
  return [again && (await isReady(fleet.a)) && (await isReady(fleet.b)), 'and posts cross again'];
}

async function run(lane, work, cell) {
  const fleet = await (await Fleet.start(lane, work, ['a', 'b'])).warm();
  const client = await open(fleet.a.port);
  const { gate, way, match } = MOMENTS[cell.at];
  if (cell.steady) await pause(STEADY_MS);
  const hold = fleet[gate].gate.hold(way, match);
  const made = call(client, fleet.b.port);
  const caught = await within(
    5000,
    hold.caught.then(() => true),
    false,
  );
  const harmed = harm(fleet, cell, hold);
  const { answer, stream } = await outcome(made, cell);
  await harmed;
  const [well, how] = await goesOn(fleet, client, cell);
  // What came late would have come by now.
  const executed = readFileSync(lane.log, 'utf8')
    .split('\n')
    .filter(line => line === made.nonce).length;
  const retry = answer.status !== 503 || answer.headers['retry-after'] !== undefined;
  const [least, most] = cell.executed;
  const good =
    caught &&
    cell.posted.includes(answer.status) &&
    retry &&
    answer.ms < (cell.ms ?? Infinity) &&
    executed >= least &&
    executed <= most &&
    cell.stream.includes(stream) &&
    well;
  const took = answer.ms === undefined ? '' : ` after ${(answer.ms / 1000).toFixed(1)} s`;
  check(
    nameOf(cell),
    good,
    `${caught ? '' : 'the moment never came; '}posted: ${answer.status}${took}${retry ? '' : ' without Retry-After'}; ` +
      `executed: ${executed}; stream: ${stream}${made.ended && stream === 'nothing' ? ` (late: ${made.ended})` : ''}; ${well ? how : `NOT: ${how}`}`,
  );
  client.socket.destroy();
  await fleet.stop();
}

export async function killing(lane, work) {
  const cells = CELLS.map((cell, n) => ({ ...cell, n }));
  const worker = async () => {
    for (let cell; (cell = cells.shift());)
      await run(lane, `${work}/${cell.n}`, cell).catch(error => check(nameOf(cell), false, error.stack));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}
