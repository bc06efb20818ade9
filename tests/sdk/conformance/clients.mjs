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
const SUITE_SECONDS = 60; // it ends a client after 30
const AT_ONCE = 4;

const PROBE = 'an upstream of unknown era is asked with a plain `initialize`, which this scenario counts as a bad request';

// `not`: scenarios that cannot apply to this client or era, each with its reason. `fails`: scenarios in which an old
// client must fail when it is put before the suite's server directly, which shows that they are about the ferry.
const lanes = [
  { client: 'ts-1.32.2', era: 'auto', revision: '2025-11-25' },
  { client: 'ts-1.32.2', era: 'auto', revision: '2026-07-28', not: { 'request-metadata': PROBE } },
  { client: 'ts-1.32.2', era: 'modern', revision: '2026-07-28' },
  { client: 'ts-1.0.4', era: 'modern', revision: '2026-07-28' },
  { client: 'ts-1.32.2-http', era: 'direct', revision: '2026-07-28', fails: ['tools_call', 'http-invalid-tool-headers'] },
];
const direct = [{ client: 'ts-2.4.0', era: 'direct', revision: '2026-07-28' }];

const INFORMS = ['SUCCESS', 'INFO'];

function faults({ successes, unobserved }, checks) {
  const found = checks
    .filter(({ status, name }) => !INFORMS.includes(status) && !(status === 'SKIPPED' && unobserved?.test(name)))
    .map(({ id, name, status, errorMessage }) => `${status} ${id} ${name}: ${errorMessage ?? ''}`);
  const good = checks.filter(({ status }) => status === 'SUCCESS').length;
  if (process.env.RIG_VERBOSE) console.log(checks.map(({ status, id, name }) => `       ${status} ${id} ${name}`).join('\n'));
  if (good < successes) found.push(`${good} checks succeeded, at least ${successes} must`);
  return found;
}

// What the suite left on disk, and how it and its client ended; an empty answer is good.
async function run({ client, era, revision }, scenario) {
  const into = mkdtempSync(join(tmpdir(), 'conformance-client-'));
  const command = `node conformance/client-under-test.mjs ${client} ${era}`;
  const options = ['client', '--command', command, '--scenario', scenario, '--spec-version', revision, '-o', into];
  try {
    const program = new Program('suite', [...suite, ...options], { cwd: root });
    const late = setTimeout(() => program.child.kill('SIGKILL'), SUITE_SECONDS * 1000);
    const how = await program.exit;
    clearTimeout(late);
    const [folder, ...more] = readdirSync(into);
    if (!folder || more.length) return [`the suite left ${more.length + !!folder} results; it said:\n${program.tail()}`];
    const read = file => readFileSync(join(into, folder, file), 'utf8');
    const found = faults(applicable[scenario], JSON.parse(read('checks.json')));
    const said = read('stdout.txt').trim();
    if (!said.endsWith('the client is content')) found.push(`the client said: ${said}\n${read('stderr.txt').trim()}`);
    if (how !== 0) found.push(`the suite ended with ${how}`);
    return found;
  } catch (error) {
    return [error.stack];
  } finally {
    rmSync(into, { recursive: true });
  }
}

// The scenarios the suite has, each with the revisions it is meant for.
async function known() {
  const program = new Program('suite', [...suite, 'list', '--client'], { cwd: root });
  await program.exit;
  const lines = program.lines.map(line => line.match(/^\s+- (\S+) \[(.*)\]$/)).filter(Boolean);
  return new Map(lines.map(([, name, revisions]) => [name, revisions.split(',')]));
}

function applies(lane, scenario, revisions) {
  if (!revisions.includes(lane.revision) || lane.fails?.includes(scenario) === false) return false;
  const silent = applicable[scenario].asks && lane.client === 'ts-1.0.4' && 'the client SDK is older than elicitation';
  const reason = lane.not?.[scenario] ?? silent;
  if (reason) console.log(`n/a  ${label(lane, scenario)}: ${reason}`);
  return !reason;
}

const label = ({ client, era, revision }, scenario) => `${revision} ${client.padEnd(14)} ${era.padEnd(6)} ${scenario}`;

export async function clientScenarios(which = lanes, only = /(?:)/) {
  console.log('\nclient scenarios: a legacy client behind the ferry as the client under test');
  const scenarios = await known();
  for (const { reason, scenarios: names } of inapplicable) console.log(`n/a  ${names.join(', ')}: ${reason}`);
  const ours = [...Object.keys(applicable), ...inapplicable.flatMap(({ scenarios: names }) => names)];
  const strays = [...scenarios.keys()].filter(name => !ours.includes(name));
  const gone = ours.filter(name => !scenarios.has(name));
  tell(!strays.length && !gone.length, `our tables are the suite's ${scenarios.size} scenarios ${[...strays, ...gone]}`);

  const jobs = which.flatMap(lane =>
    Object.keys(applicable)
      .filter(scenario => scenarios.has(scenario) && applies(lane, scenario, scenarios.get(scenario)))
      .map(scenario => ({ lane, scenario }))
      .filter(({ lane, scenario }) => only.test(label(lane, scenario))),
  );
  const work = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const found = await run(job.lane, job.scenario);
      if (job.lane.fails) {
        tell(found.some(fault => fault.startsWith('FAILURE')), `${label(job.lane, job.scenario)} fails, as it must`);
        continue;
      }
      tell(!found.length, label(job.lane, job.scenario));
      for (const fault of found) console.log(fault.replace(/^/gm, '       '));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

// By itself: `clients.mjs [--direct] [PATTERN]`, the pattern being one for the printed lines.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const args = process.argv.slice(2);
  const pattern = new RegExp(args.find(arg => arg !== '--direct') ?? '');
  await clientScenarios(args.includes('--direct') ? direct : lanes, pattern);
  process.exitCode = sum() ? 0 : 1;
}
