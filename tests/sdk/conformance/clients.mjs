// Runs the official suite's client scenarios with a legacy client behind the ferry as the client under test.
// A scenario passes when the suite's own record of it has as many successes as there must be and no failure,
// warning or unexplained omission, and the client saw what it should.
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { applicable, inapplicable } from './client-scenarios.mjs';
import { sum, tell } from './tally.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const suite = ['node', '--import', './conformance/node20.mjs', 'node_modules/conformance-2026/dist/index.js'];
const CLIENT_SECONDS = 90; // then the suite ends a client
const SUITE_SECONDS = 120;

const PROBE = 'an upstream of unknown era is asked with a plain `initialize`, which this scenario counts as a bad request';
const UNTOLD = { 'request-metadata': PROBE, 'http-standard-headers': PROBE };
const AGE = 'the client SDK is older than elicitation';
const OLDER = { 'request-metadata': AGE, 'sep-2322-client-request-state': AGE };

// `only`: the scenarios of the lane, where not all that apply. `not`: those that cannot apply to this client or era, each
// with its reason. `fails`: an old client before the suite's server directly, which must fail, and so shows that the
// scenario is about the ferry.
const lanes = [
  { client: 'ts-1.32.2', era: 'auto', revision: '2025-11-25' },
  { client: 'ts-1.32.2', era: 'auto', revision: '2026-07-28', not: UNTOLD },
  { client: 'ts-1.32.2', era: 'modern', revision: '2026-07-28', only: [...Object.keys(UNTOLD), 'sep-2322-client-request-state'] },
  { client: 'ts-1.0.4', era: 'modern', revision: '2026-07-28', not: OLDER },
  { client: 'ts-1.32.2-http', era: 'auto', revision: '2026-07-28', not: UNTOLD },
  { client: 'ts-1.32.2-http', era: 'modern', revision: '2026-07-28', only: Object.keys(UNTOLD) },
  { client: 'ts-1.32.2-http', era: 'direct', revision: '2026-07-28', only: ['tools_call', 'http-invalid-tool-headers'], fails: true },
];
const direct = [{ client: 'ts-2.4.0', era: 'direct', revision: '2026-07-28' }];

// The scenarios the suite has, each with the revisions it is meant for.
async function known() {
  const program = new Program('suite', [...suite, 'list', '--client'], { cwd: root });
  await program.exit;
  const lines = program.lines.map(line => line.match(/^\s+- (\S+) \[(.*)\]$/)).filter(Boolean);
  return new Map(lines.map(([, name, revisions]) => [name, revisions.split(',')]));
}

const label = ({ client, era, revision }, scenario) => `${revision} ${client.padEnd(14)} ${era.padEnd(6)} ${scenario}`;

// What the suite left on disk: scenario -> its checks and what the client said.
async function results({ client, era, revision }, scenarios) {
  const into = mkdtempSync(join(tmpdir(), 'conformance-client-'));
  const command = `./conformance/client-under-test.sh ${client} ${era}`;
  const options = ['client', '--command', command, '--suite', 'all', '--spec-version', revision];
  options.push('--timeout', `${CLIENT_SECONDS}000`, '-o', into);
  const env = { SCENARIOS: scenarios.join(' ') };
  try {
    const program = new Program('suite', [...suite, ...options], { cwd: root, env });
    const late = setTimeout(() => program.child.kill('SIGKILL'), SUITE_SECONDS * 1000);
    await program.exit; // 1 when any check failed, also of the scenarios that are not run
    clearTimeout(late);
    const found = new Map();
    for (const folder of readdirSync(into)) {
      const [, scenario] = folder.match(/^(.+)-\d{4}-\d\d-\d\dT[\d-]+Z$/) ?? [];
      if (!scenarios.includes(scenario)) continue;
      const read = file => readFileSync(join(into, folder, file), 'utf8').trim();
      found.set(scenario, { checks: JSON.parse(read('checks.json')), said: read('stdout.txt'), errors: read('stderr.txt') });
    }
    if (!found.size) throw new Error(`the suite left no results; it said:\n${program.tail()}`);
    return found;
  } finally {
    rmSync(into, { recursive: true });
  }
}

// Why a result is not a pass; none if it is one.
function faults({ successes, unobserved }, result) {
  if (!result) return ['the suite left no result'];
  const { checks, said, errors } = result;
  const bad = ({ status, name }) =>
    !['SUCCESS', 'INFO'].includes(status) && !(status === 'SKIPPED' && unobserved?.test(name));
  const found = checks.filter(bad).map(({ id, name, status, errorMessage }) => `${status} ${id} ${name}: ${errorMessage ?? ''}`);
  const good = checks.filter(({ status }) => status === 'SUCCESS').length;
  if (good < successes) found.push(`${good} checks succeeded, at least ${successes} must`);
  if (!said.endsWith('the client is content')) found.push(`the client said: ${said}\n${errors}`);
  return found;
}

async function runLane(lane, scenarios) {
  let found = new Map();
  try {
    found = await results(lane, scenarios);
  } catch (error) {
    console.log(error.stack);
  }
  for (const scenario of scenarios) {
    const result = found.get(scenario);
    const reasons = faults(applicable[scenario], result);
    if (lane.fails) {
      const refused = reasons.some(reason => reason.startsWith('FAILURE'));
      tell(refused, `${label(lane, scenario)} fails, as it must`);
    } else {
      tell(!reasons.length, label(lane, scenario));
      for (const reason of reasons) console.log(reason.replace(/^/gm, '       '));
    }
    if (process.env.RIG_VERBOSE) for (const check of result?.checks ?? []) console.log(`       ${check.status} ${check.id} ${check.name}`);
  }
}

function tellWhatApplies(suites) {
  for (const { reason, scenarios } of inapplicable) console.log(`n/a  ${scenarios.join(', ')}: ${reason}`);
  const ours = [...Object.keys(applicable), ...inapplicable.flatMap(({ scenarios }) => scenarios)];
  const strays = [...suites.keys()].filter(name => !ours.includes(name));
  const gone = ours.filter(name => !suites.has(name));
  tell(!strays.length && !gone.length, `our tables are the suite's ${suites.size} scenarios ${[...strays, ...gone]}`);
}

export async function clientScenarios(which = lanes, only = /(?:)/) {
  console.log('\nclient scenarios: a legacy client behind the ferry as the client under test');
  const suites = await known();
  tellWhatApplies(suites);
  for (const lane of which) {
    const meant = Object.keys(applicable).filter(scenario => suites.get(scenario)?.includes(lane.revision));
    const wanted = meant.filter(scenario => (lane.only ?? meant).includes(scenario) && only.test(label(lane, scenario)));
    for (const scenario of wanted) {
      if (lane.not?.[scenario]) console.log(`n/a  ${label(lane, scenario)}: ${lane.not[scenario]}`);
    }
    const scenarios = wanted.filter(scenario => !lane.not?.[scenario]);
    if (scenarios.length) await runLane(lane, scenarios);
  }
}

// By itself: `clients.mjs [--direct] [PATTERN]`, the pattern being one for the printed lines.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const pattern = new RegExp(args.find(arg => arg !== '--direct') ?? '');
  await clientScenarios(args.includes('--direct') ? direct : lanes, pattern);
  process.exitCode = sum() ? 0 : 1;
}
