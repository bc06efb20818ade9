// One process per client and server: runs every scenario of the plan with one TypeScript SDK and prints
// a JSON line per scenario. `node typescript.mjs PLAN` where PLAN is the JSON text made by the driver.
import { randomUUID } from 'node:crypto';
import * as more from './modern.mjs';
import { rounds } from './rounds.mjs';
import * as always from './scenarios.mjs';
import { opener } from './ts-peers.mjs';

const plan = JSON.parse(process.argv[2]);
const open = await opener(plan.client);
const scenarios = { ...always.scenarios, ...more.modern, ...rounds, ...more.dual, ...more.changing };

const control = async verb => {
  const answer = await fetch(`${plan.control}/${verb}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`${verb}: ${await answer.text()}`);
  return answer.json();
};

const within = (seconds, promise) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

// A reconnecting EventSource reports what it does through rejections nobody awaits.
process.on('unhandledRejection', error => console.error('unhandled:', error));

let peer;
for (const scenario of plan.scenarios) {
  const begun = Date.now();
  let detail = '';
  try {
    peer ??= await within(30, open(plan.url, randomUUID()));
    const nonce = `${scenario}-${randomUUID().slice(0, 8)}`;
    await within(90, scenarios[scenario]({ peer, nonce, plan, open, control, dialect: plan.dialect }));
  } catch (error) {
    detail = `${error?.message ?? error}`.slice(0, 600);
    if (peer?.lastError) detail += ` (last transport error: ${`${peer.lastError.message}`.slice(0, 300)})`;
    // The next scenario gets a fresh connection: one red must not colour the rest.
    await within(5, Promise.resolve(peer?.close())).catch(() => {});
    peer = undefined;
  }
  console.log(JSON.stringify({ scenario, ok: detail === '', detail, ms: Date.now() - begun }));
}
await within(5, Promise.resolve(peer?.close())).catch(() => {});
process.exit(0);
