// Several replicas with real peers: `main.mjs [NAME...]` runs the parts of these names, or all, some at once. See
// tests/SOAK.md.
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { Lane } from '../soak/lane.mjs';
import { check, close } from '../soak/report.mjs';
import { counts } from './counts.mjs';
import { evil } from './evil.mjs';
import { killing } from './killing.mjs';
import { outages } from './outages.mjs';
import { scenarios } from './scenarios.mjs';
import { spread } from './spread.mjs';
import { sticky } from './sticky.mjs';

// The first two wait more than they compute, so the others run beside them.
const parts = { evil, killing, counts, outages, sticky, scenarios, spread };
const AT_ONCE = 3;
const self = fileURLToPath(import.meta.url);
const work = fileURLToPath(new URL('../../../target/replicas', import.meta.url));

async function run(name) {
  const begun = Date.now();
  const own = `${work}/${name}`;
  rmSync(own, { recursive: true, force: true });
  mkdirSync(own, { recursive: true });
  const lane = new Lane('sessions', `${own}/executed.log`);
  try {
    await lane.start([], 0);
    await parts[name](lane, own);
  } catch (error) {
    check(name, false, error.stack);
  }
  await lane.server?.end('SIGKILL');
  lane.relay?.close();
  console.log(`   ${name}: ${((Date.now() - begun) / 1000).toFixed(0)} s`);
}

// Each part in a process of its own, whose lines are shown together when it has ended.
async function runAll(names) {
  const sum = { passed: 0, failed: 0 };
  const next = async () => {
    for (let name; (name = names.shift());) {
      const lines = [];
      const part = new Program(name, ['node', self, name], { onLine: line => lines.push(line) });
      const how = await part.exit;
      const [, passed, failed] = lines.at(-1)?.match(/^(\d+) passed, (\d+) failed$/) ?? [];
      if (passed) lines.pop();
      console.log([`-- ${name}`, ...lines].join('\n'));
      if (!passed) console.log(`FAIL  ${name}: ended with ${how} and no result`);
      sum.passed += Number(passed ?? 0);
      sum.failed += Number(failed ?? 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  console.log(`${sum.passed} passed, ${sum.failed} failed`);
  process.exit(sum.failed || !sum.passed ? 1 : 0);
}

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (parts[name]) continue;
  console.error(`no part ${name}; there are: ${Object.keys(parts).join(' ')}`);
  process.exit(2);
}
if (wanted.length === 1) {
  await run(wanted[0]);
  close();
}
await runAll(wanted.length ? wanted : Object.keys(parts));
