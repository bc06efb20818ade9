// Ten thousand exchanges: the page holds them all, draws those in sight, and scrolls.
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { check, column, innocent, OldClient, openTap, ROW, says, startFerry, until } from './rig.mjs';

const COUNT = 10_000;
// At once; the ferry allows a connection so many.
const TOGETHER = 32;
// So many, then the page is waited for: what the ferry records waits in queues with bounds, and on a busy machine the clients
// alone may be faster than what empties them. These and what they consist of fit in.
const BURST = 500;
// Elements of the page that may belong to rows, whatever their number: those in sight and some around.
const MOST_ROWS = 80;

export async function many({ browser, mirror }) {
  // For a file everything is recorded; for pages alone so much a second, and these come faster.
  const folder = await mkdtemp(join(tmpdir(), 'ferry-tap-'));
  const ferry = await startFerry(mirror.url, { flags: ['--tap-file', join(folder, 'traffic.jsonl')] });
  const client = await OldClient.open(ferry.url);
  const page = await openTap(browser, ferry);

  await check(`${COUNT} exchanges arrive while the page looks on`, async () => {
    let next = 0;
    const worker = async upTo => {
      while (next < upTo) await client.call(`call-${next++}`);
    };
    while (next < COUNT) {
      const upTo = next + BURST;
      await Promise.all(Array.from({ length: TOGETHER }, () => worker(upTo)));
      // The handshake is two more.
      await says(page, '#count', `${(upTo + 2).toLocaleString('en')} exchanges`);
    }
    await page.locator(ROW, { hasText: /^.*call-9{3}\d/ }).first().waitFor();
    assert.ok((await page.locator('#list .row').count()) < MOST_ROWS);
  });

  await check('they scroll, with few elements on the page and the right rows at both ends', async () => {
    await page.keyboard.press('Home');
    await until('the first row', async () => (await column(page, 'method'))[0] === 'initialize');
    const frames = await page.evaluate(async steps => {
      const list = document.getElementById('list');
      const step = (list.scrollHeight - list.clientHeight) / steps;
      const times = [];
      let most = 0;
      let before = performance.now();
      for (let i = 0; i <= steps; i++) {
        list.scrollTop = i * step;
        await new Promise(resolve => requestAnimationFrame(resolve));
        const now = performance.now();
        times.push(now - before);
        before = now;
        most = Math.max(most, list.querySelectorAll('.row').length);
      }
      times.sort((a, b) => a - b);
      return { most, half: times[times.length >> 1], tail: times[Math.floor(times.length * 0.99)] };
    }, 300);
    console.log(`      frames while scrolling: p50 ${frames.half.toFixed(1)} ms, p99 ${frames.tail.toFixed(1)} ms; ${frames.most} rows on the page`);
    assert.ok(frames.most < MOST_ROWS, `${frames.most} rows are on the page`);
    await until('the last row', async () => (await column(page, 'name')).at(-1)?.startsWith('call-99'));
    const all = await page.evaluate(() => document.querySelectorAll('*').length);
    assert.ok(all < 2500, `${all} elements are on the page`);
  });

  await check('a row in the middle is found by its filter and opens', async () => {
    await page.fill('#name', 'call-9876');
    await until('one row', async () => (await column(page, 'name')).join() === 'call-9876');
    await page.locator(ROW).first().click();
    await page.locator('.card.server', { hasText: 'call-9876' }).first().waitFor();
    await page.click('#reset');
    await page.locator(`${ROW}[aria-selected=true]`).waitFor();
  });

  await check('what is too old to be stored is said to be', async () => {
    await page.keyboard.press('Escape');
    await page.keyboard.press('Home');
    await page.locator(ROW).first().click();
    await page.getByText('no longer stored').waitFor();
  });

  await innocent(page);
  await page.close();
  await client.close();
  await ferry.end('SIGINT', 40);
  await rm(folder, { recursive: true });
}
