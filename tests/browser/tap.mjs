// The tap's page as a browser sees it: Chromium, the real ferry, real clients and servers. What is tried is in tap/.
import { mkdtempSync, rmSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { opener } from '../sdk/clients/ts-peers.mjs';
import { files } from './tap/files.mjs';
import { hostile } from './tap/hostile.mjs';
import { many } from './tap/many.mjs';
import { pane } from './tap/pane.mjs';
import { check, counts, launch, startFerry, startMirror, startSdkServer } from './tap/rig.mjs';
import { rows } from './tap/rows.mjs';
import { use } from './tap/use.mjs';
import { views } from './tap/views.mjs';

const wanted = process.argv.slice(2);
const runs = name => wanted.length === 0 || wanted.includes(name);
// A client whose stream is ended reports it through rejections that nobody awaits.
process.on('unhandledRejection', error => console.error('unhandled:', error));

const profile = mkdtempSync(join(tmpdir(), 'ferry-tap-'));
await check('the rig', async () => {
  const browser = await launch(profile);
  browser.setDefaultTimeout(20_000);
  const mirror = await startMirror();
  if (runs('views')) {
    const server = await startSdkServer();
    const ferry = Object.assign(await startFerry(server.url), { upstream: server.url });
    const open = async (client, url) => (await opener(client))(url, randomUUID());
    const { modern } = await views({ browser, ferry, open });
    await files({ browser, ferry, modern });
    await modern.client.close();
    await ferry.end('SIGINT', 40);
    await server.end();
  }
  if (runs('use')) await use({ browser, mirror });
  if (runs('pane')) await pane({ browser, mirror });
  if (runs('rows')) await rows({ browser, mirror });
  if (runs('hostile')) await hostile({ browser, mirror });
  if (runs('many')) await many({ browser, mirror });
  await browser.close();
  mirror.server.close();
  mirror.server.closeAllConnections();
});
rmSync(profile, { recursive: true, force: true });
const { passed, failed } = counts();
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
