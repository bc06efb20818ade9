// Several replicas with real peers: `main.mjs [NAME...]` runs the parts of these names, or all. See tests/SOAK.md.
import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Lane } from '../soak/lane.mjs';
import { check, close } from '../soak/report.mjs';
import { counts } from './counts.mjs';
import { evil } from './evil.mjs';
import { killing } from './killing.mjs';
import { outages } from './outages.mjs';
import { spread } from './spread.mjs';
import { sticky } from './sticky.mjs';

const parts = { counts, killing, outages, evil, sticky, spread };
const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (parts[name]) continue;
  console.error(`no part ${name}; there are: ${Object.keys(parts).join(' ')}`);
  process.exit(2);
}

const work = fileURLToPath(new URL('../../../target/replicas', import.meta.url));
for (const [name, part] of Object.entries(parts)) {
  if (wanted.length && !wanted.includes(name)) continue;
  console.log(`-- ${name}`);
  const begun = Date.now();
  const own = `${work}/${name}`;
  rmSync(own, { recursive: true, force: true });
  mkdirSync(own, { recursive: true });
  const lane = new Lane('sessions', `${own}/executed.log`);
  try {
    await lane.start([], 0);
    await part(lane, own);
  } catch (error) {
    check(name, false, error.stack);
  }
  await lane.server?.end('SIGKILL');
  lane.relay?.close();
  console.log(`   ${((Date.now() - begun) / 1000).toFixed(0)} s`);
}
close();
