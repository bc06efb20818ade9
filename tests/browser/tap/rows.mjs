// The list of rows that a real ferry gives only after long waiting, seldom, or in great number.
import assert from 'node:assert/strict';
import { check, innocent, openTap, ROW, startFerry, until } from './rig.mjs';
import { called, startStandIn } from './standin.mjs';

export async function rows({ browser, mirror }) {
  const ferry = await startFerry(mirror.url);
  const tap = await startStandIn(ferry);
  tap.connection('c1');
  for (let i = 1; i <= 100; i++) {
    tap.exchange(i, { outcome: 'result', started: Date.now() - 5000, ended: Date.now() - 4000, upstream_ms: 900 });
    tap.record(i, called(i));
  }
  let page = await openTap(browser, tap);
  const SELECTED = `${ROW}[aria-selected=true]`;
  const selected = () => page.locator(`${SELECTED} .name`).allTextContents();

  await check('the highlight goes with the pane from row to row, also during a pause', async () => {
    await page.keyboard.press('p');
    await page.locator(ROW, { hasText: 'tool-95' }).click();
    await page.waitForSelector('#detail .card');
    // Without scrolling, and at once: before any clock ticks.
    for (const [key, name] of [['k', 'tool-94'], ['k', 'tool-93'], ['j', 'tool-94']]) {
      await page.keyboard.press(key);
      await page.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve))));
      assert.deepEqual(await selected(), [name]);
      assert.equal(await page.locator('#detail h2 span').textContent(), name);
    }
    await page.keyboard.press('p');
  });

  await check('an address with an exchange scrolls to its row and marks it', async () => {
    await page.close();
    page = await openTap(browser, tap, '?exchange=9');
    await page.waitForSelector('#detail .card');
    await until('the row', async () => (await selected()).join() === 'tool-9', 5);
    const [list, row] = [await page.locator('#list').boundingBox(), await page.locator(SELECTED).boundingBox()];
    assert.ok(row.y >= list.y && row.y + row.height <= list.y + list.height, 'the row is not in sight');
    // It stays there when others come.
    tap.exchange(101);
    await page.waitForTimeout(100);
    assert.deepEqual(await selected(), ['tool-9']);
  });

  await check('all of that without an error or a report of the policy', async () => innocent(page));
  await page.close();
  tap.close();
  await ferry.end('SIGINT', 40);
}
