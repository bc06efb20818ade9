// Several upstreams with sessions behind a balancer that keeps a session where it began, by cookie or by the session's id;
// one of them dies, and its sessions begin anew at another without their clients noticing.
import { Lane } from '../soak/lane.mjs';
import { check, until } from '../soak/report.mjs';
import { Affinity } from './affinity.mjs';
import { Servers } from './servers.mjs';
import { open } from './wire.mjs';

const CLIENTS = 12;
const ROUNDS = 5;

async function one(work, by) {
  const servers = await Servers.start(work, by, 2);
  const balancer = await Affinity.open(servers.ports, by);
  const lane = Object.assign(new Lane(by, work), { relay: balancer });
  const ferry = await lane.startFerry(['--drain-delay', '0s']);
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => open(ferry.port)));
  const round = async name => {
    const keyOf = n => `${by}-${name}-${n}`;
    const all = await Promise.all(clients.map((client, n) => client.call('echo', { key: keyOf(n) })));
    const wrong = all.filter(({ message }, n) => message?.result?.content[0].text !== keyOf(n));
    for (const answer of wrong.slice(0, 3)) console.log(`   ${JSON.stringify(answer)}`);
    return all.length - wrong.length;
  };
  let good = 0;
  for (let n = 0; n < ROUNDS; n++) good += await round(n);
  const before = await servers.sessions();
  check(`${by}: every call finds its session`, good === CLIENTS * ROUNDS && balancer.strays === 0, `${good} results`);
  check(
    `${by}: both servers have sessions, one per client`,
    before.every(count => count > 0) && before[0] + before[1] === CLIENTS,
    `${before}`,
  );
  await servers.kill(0);
  let after = 0;
  for (let n = 0; n < ROUNDS; n++) after += await round(`after-${n}`);
  const [now] = (await servers.sessions()).slice(1);
  check(`${by}: calls go on when one server has died`, after === CLIENTS * ROUNDS, `${after} results`);
  check(`${by}: its sessions began anew, each once, at the other`, now === CLIENTS, `${before} sessions, then ${now}`);
  const twice = servers.executedTwice();
  check(`${by}: nothing ran twice`, twice === 0, `${twice}`);
  for (const client of clients) client.socket.destroy();
  check(`${by}: sessions are deleted where they are`, await until(10, async () => (await servers.sessions())[1] === 0));
  const how = await ferry.end('SIGTERM', 20);
  check(`${by}: the ferry ends with 0`, how === 0, `${how}`);
  balancer.close();
  await servers.stop();
}

export async function sticky(_, work) {
  await Promise.all(['cookie', 'session'].map(by => one(work, by)));
}
