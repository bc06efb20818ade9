// Runs the matrix: a lane per server, lanes side by side, clients one after another inside a lane.
// Prints a line per client × server × scenario, a table, and last of all `N passed, N failed`.
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { inapplicable } from './applicable.mjs';
import { Lane } from './lane.mjs';
import { isRun, scenariosOf } from './matrix.mjs';
import { clients, servers } from './peers.mjs';
import { Program } from './processes.mjs';

const CLIENT_SECONDS = 600; // all scenarios of one client and one server

const { values: options } = parseArgs({
  options: { only: { type: 'string' }, lanes: { type: 'string', default: '4' }, direct: { type: 'boolean' }, all: { type: 'boolean' } },
});

// `ts-*×everything×crowd`: glob patterns for client, server and scenario, each may be left out.
const [onlyClient, onlyServer, onlyScenario] = (options.only ?? '')
  .split('×')
  .concat('', '')
  .map(part => part.trim() || '*')
  .map(part => new RegExp(`^${part.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`));

const root = fileURLToPath(new URL('..', import.meta.url));
const ferry = process.env.MCP_FERRY_BIN ?? fileURLToPath(new URL('../../../target/release/mcp-ferry', import.meta.url));
const results = []; // {client, server, outcome: 'ok' | 'FAIL' | 'n/a'}

function report(client, server, scenario, outcome, detail = '', ms) {
  results.push({ client, server, outcome });
  const took = ms === undefined ? '' : ` (${ms} ms)`;
  console.log(`${outcome.padEnd(4)} ${client} × ${server} × ${scenario}${took}${detail ? `: ${detail}` : ''}`);
}

async function runClient(lane, client) {
  const wanted = scenariosOf(client, lane.server, options.all).filter(scenario => onlyScenario.test(scenario));
  const open = new Set();
  for (const scenario of wanted) {
    const reason = inapplicable(client.name, lane.name, scenario);
    if (reason) report(client.name, lane.name, scenario, 'n/a', reason);
    else open.add(scenario);
  }
  if (!open.size) return;
  const plan = JSON.stringify(lane.plan(client, [...open]));
  const program = new Program(`client ${client.name}`, [...client.command, plan], {
    cwd: root,
    onLine: (line, isResult) => {
      if (!isResult || !line.startsWith('{')) return;
      const { scenario, ok, detail, ms } = JSON.parse(line);
      if (!open.delete(scenario)) throw new Error(`${client.name} reported ${scenario} unasked`);
      report(client.name, lane.name, scenario, ok ? 'ok' : 'FAIL', detail.replaceAll('\n', ' | '), ms);
    },
  });
  const late = setTimeout(() => program.child.kill('SIGKILL'), CLIENT_SECONDS * 1000);
  const how = await program.exit;
  clearTimeout(late);
  let silent = `the client ended with ${how} and no result: ${program.tail(6)}`.replaceAll('\n', ' | ');
  for (const scenario of open) {
    report(client.name, lane.name, scenario, 'FAIL', silent);
    silent = 'no result, as above';
  }
}

// What must hold of the ferry itself once every client of the lane has gone.
async function afterwards(lane) {
  const deadline = Date.now() + 20_000;
  let left;
  do {
    left = (await lane.answer('state')).sessions ?? [];
    if (left.length) await new Promise(resolve => setTimeout(resolve, 50));
  } while (left.length && Date.now() < deadline);
  report('(all)', lane.name, 'no-session-left', left.length ? 'FAIL' : 'ok', left.length ? `${left.length} left upstream` : '');
}

async function runLane(name, server, chosen) {
  const lane = new Lane(name, server, { root, ferry, direct: options.direct });
  try {
    await lane.start();
    for (const client of chosen) if (isRun(client, server, options.all)) await runClient(lane, client);
    if (lane.ferry) await afterwards(lane);
  } catch (error) {
    report('(all)', name, 'lane', 'FAIL', `${error.stack}`.replaceAll('\n', ' | '));
  }
  const how = await lane.stop();
  if (lane.ferry) {
    report('(all)', name, 'ferry-ends-cleanly', how === 0 ? 'ok' : 'FAIL', how === 0 ? '' : `ended with ${how}: ${lane.ferry.tail(5)}`);
  }
  if (process.env.RIG_VERBOSE) console.log(`--- ferry before ${name} said:\n${lane.ferry?.tail(100)}\n--- ${name} said:\n${lane.upstream?.tail(100)}`);
}

const chosenClients = Object.values(clients).filter(({ name }) => onlyClient.test(name));
const chosenServers = Object.entries(servers).filter(
  ([name, server]) => onlyServer.test(name) && (!server.direct || name === options.only?.split('×')[1]?.trim()),
);
const waiting = [...chosenServers];
const begun = Date.now();
await Promise.all(
  Array.from({ length: Number(options.lanes) }, async () => {
    for (let next; (next = waiting.shift()); ) await runLane(...next, chosenClients);
  }),
);

// The table: a row per server, a column per client, `passed/run` in each cell.
const columns = [...chosenClients.map(({ name }) => name), '(all)'];
const cell = (client, server) => {
  const mine = results.filter(r => r.client === client && r.server === server && r.outcome !== 'n/a');
  const ok = mine.filter(r => r.outcome === 'ok').length;
  return `${ok}/${mine.length}${ok < mine.length ? '!' : ''}`;
};
const wide = Math.max(...chosenServers.map(([name]) => name.length), 6);
console.log(`\n${'server'.padEnd(wide)}  ${columns.map(name => name.padStart(Math.max(name.length, 6))).join('  ')}`);
for (const [server] of chosenServers) {
  const cells = columns.map(client => cell(client, server).padStart(Math.max(client.length, 6)));
  console.log(`${server.padEnd(wide)}  ${cells.join('  ')}`);
}

const count = outcome => results.filter(r => r.outcome === outcome).length;
const failed = count('FAIL');
console.log(`\n${count('n/a')} combinations do not apply; ${((Date.now() - begun) / 1000).toFixed(0)} s`);
console.log(`${count('ok')} passed, ${failed} failed`);
process.exitCode = failed === 0 && count('ok') > 0 ? 0 : 1;
