// The list of rows that a real ferry gives only after long waiting, seldom, or in great number.
import assert from 'node:assert/strict';
import { OUTCOMES } from '../../../src/server/admin/page/format.js';
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

  await check('the clock of a call that hangs can be read, however long it has', async () => {
    const minute = 60_000;
    tap.exchange(98, { started: Date.now() - 59 * minute - 59_000 });
    tap.exchange(99, { started: Date.now() - 23 * 60 * minute - 59 * minute });
    tap.exchange(100, { outcome: 'error', code: -32000, started: Date.now() - 20 * minute, ended: Date.now() - 5 * minute });
    for (const width of [1280, 400]) {
      const view = await openTap(browser, tap, '', { width });
      await view.locator(`${ROW}.hung`).first().waitFor();
      const rows = view.locator(`${ROW}.hung, ${ROW}.error`);
      assert.equal(await rows.count(), 3);
      const clipped = await rows.locator('.took').evaluateAll(cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.textContent));
      assert.deepEqual(clipped, [], `at ${width}`);
      assert.equal(await view.locator(`${ROW}.error .took`).textContent(), '15:00 min');
      await view.close();
    }
    for (const i of [98, 99, 100]) tap.exchange(i, { outcome: 'result', started: Date.now() - 5000, ended: Date.now() - 4000, upstream_ms: 900 });
  });

  await check('a bar whose share of the server nobody knows is of one shade', async () => {
    const now = Date.now();
    tap.exchange(98, { outcome: 'result', started: now - 900, ended: now });
    // With the pane open there is no room for bars.
    await page.keyboard.press('Escape');
    await page.keyboard.press('End');
    const shade = name => page.locator(ROW, { hasText: name }).locator('.whole').evaluate(bar => [parseFloat(bar.firstChild.style.width) > 0, getComputedStyle(bar).backgroundColor]);
    await page.locator(ROW, { hasText: 'tool-98' }).locator('.took', { hasText: '900 ms' }).waitFor();
    const [unknown, known, open] = [await shade('tool-98'), await shade('tool-97'), await shade('tool-101')];
    assert.deepEqual([unknown[0], known[0]], [false, true]);
    assert.ok(unknown[1] !== known[1] && unknown[1] !== open[1], `${unknown} ${known} ${open}`);
  });

  await check('what is in no list is not said to have been there', async () => {
    const stranger = await openTap(browser, tap, '?exchange=999999');
    await stranger.getByText('There is no such exchange, or its records').waitFor();
    await stranger.goto(`${tap.tap}/?exchange=50`);
    await stranger.locator('.card').first().waitFor();
    await stranger.goto(`${tap.tap}/?connection=c999&view=sequence`);
    await stranger.getByText('There is no such connection, or its records').waitFor();
    await stranger.close();
  });

  await check('what the ferry refused is a row without a connection, red, with its status and its reason', async () => {
    const now = Date.now();
    const unknown = { connection: undefined, type: 'unknown', name: undefined, id: undefined, method: 'POST /messages', started: now, ended: now };
    tap.exchange(102, { ...unknown, outcome: 'refused', status: 413, response_bytes: undefined, messages: undefined, calls: undefined });
    tap.exchange(103, { ...unknown, outcome: 'error', status: 400 });
    tap.exchange(104, { ...unknown, outcome: 'sent', direction: undefined, request_bytes: undefined });
    const http = { method: 'POST', target: '/messages', headers: [['content-length', '99999999']] };
    tap.record(9000, { kind: 'refused', exchange: 102, connection: undefined, peer: '127.0.0.1:9', http, status: 413, why: 'the body is larger than it may be' });
    await page.check('#errors');
    await until('both errors', async () => (await page.locator(`${ROW} .outcome`).allTextContents()).join() === 'refused 413,error', 5);
    await page.selectOption('#outcome', 'refused');
    const row = page.locator(ROW, { hasText: 'refused 413' });
    await until('the refusal alone', async () => (await page.locator(ROW).count()) === 1, 5);
    const colour = locator => locator.evaluate(element => getComputedStyle(element).color);
    const plain = await colour(page.locator('#count'));
    assert.notEqual(await colour(row.locator('.outcome')), plain);
    await row.click();
    await page.locator('.card.bad', { hasText: 'the body is larger than it may be' }).waitFor();
    await page.locator('.card.bad strong', { hasText: 'refused 413' }).waitFor();
    assert.equal(await colour(page.locator('#detail h2 small')), await colour(row.locator('.outcome')));
    assert.equal(await page.locator('#detail h2').innerText(), 'POST /messages\nrefused 413 · #102');
    assert.equal(await page.getByRole('button', { name: 'whole connection' }).count(), 0);
    for (const tab of ['sequence', 'raw', 'both legs']) {
      await page.getByRole('tab', { name: tab }).click();
      assert.doesNotMatch(await page.locator('#detail').innerText(), /undefined|NaN/);
    }
    await page.locator('#charts', { hasText: /errors2 · / }).waitFor();
    await page.click('#reset');
    await page.locator(ROW, { hasText: 'sent' }).click();
    assert.doesNotMatch(await page.locator('#app').innerText(), /undefined|NaN/);
  });

  await check('a list that has become short, and long again, goes on following', async () => {
    tap.connection('c6');
    for (const i of [105, 106]) {
      tap.exchange(i, { connection: 'c6', outcome: 'sent' });
      tap.record(0, { ...called(i), connection: 'c6' });
    }
    for (const [width, height] of [[1280, 800], [900, 300]]) {
      const view = await openTap(browser, tap, '', { width, height });
      const list = () => view.locator('#list').evaluate(box => ({ rows: box.ariaRowCount, away: box.scrollHeight - box.clientHeight - box.scrollTop }));
      // A frame lays out and tells of what was scrolled by that; the next one tells of what that has changed.
      const frames = () => view.evaluate(() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(resolve)))));
      const follows = async (rows, what) => {
        await until(`${rows} rows`, async () => (await list()).rows === String(rows), 5);
        await frames();
        assert.ok((await list()).away < 2, `${what}: ${(await list()).away} from the end`);
        assert.equal(await view.locator('#newest').isVisible(), false, what);
      };
      await follows(106, 'at the beginning');
      await view.locator('[data-connection=c6]').click();
      await follows(2, 'a connection');
      await view.click('#sequence');
      await view.waitForSelector('g.arrow');
      await follows(2, 'its sequence');
      await view.click('#detail .close');
      await follows(2, 'the pane closed');
      await view.click('#connection-chip');
      await follows(106, 'the filter taken away');
      await view.locator(`${ROW}[aria-rowindex="106"]`).click();
      await view.waitForSelector('g.arrow');
      await follows(106, 'the newest opened');
      await view.close();
    }
  });

  await check('a narrow list tells outcomes apart without colours, and the pane its way to the connection', async () => {
    const outcomes = OUTCOMES;
    for (const [i, outcome] of outcomes.entries()) tap.exchange(111 + i, { outcome, ended: outcome === 'open' ? undefined : Date.now() });
    const small = await openTap(browser, tap, '', { width: 400 });
    const row = outcome => small.locator(`${ROW}.${outcome}`).last();
    await row('sent').waitFor();
    const signs = new Map();
    for (const outcome of outcomes) {
      const cell = row(outcome).locator('.outcome');
      const sign = await cell.evaluate(element => {
        const { content, width, backgroundColor, boxShadow } = getComputedStyle(element, '::before');
        return { content, wide: parseFloat(width) > 8, plain: backgroundColor === 'rgba(0, 0, 0, 0)' && boxShadow === 'none' };
      });
      assert.deepEqual([sign.wide, sign.plain], [true, true], outcome);
      signs.set(sign.content, outcome);
      // The help says what each sign means.
      const explained = await small.locator(`#signs .${outcome}`).evaluate(element => getComputedStyle(element, '::before').content);
      assert.equal(sign.content.split(' / ')[0], explained);
      assert.equal(await cell.getAttribute('title'), outcome.replace('-', ' '));
    }
    assert.equal(signs.size, outcomes.length, [...signs].join('; '));
    await row('result').click();
    const whole = small.getByRole('button', { name: 'whole connection' });
    const { x, width } = await whole.boundingBox();
    assert.ok(x >= 0 && x + width <= 400, `from ${x}, ${width} wide`);
    assert.ok((await small.evaluate(() => document.documentElement.scrollWidth)) <= 400);
    await whole.click();
    await small.waitForSelector('g.arrow');
    await small.close();
  });

  await check('heads that are too long end in an ellipsis, and a lost connection does not squeeze the page', async () => {
    tap.connection('c2', { client: { name: 'a-client-whose-name-is-long', version: '1.0.0-beta.12' }, protocol: '2024-11-05', upstream_protocol: '2025-11-25', era: 'handshake' });
    tap.record(0, { ...called(undefined), connection: 'c2' });
    const small = await openTap(browser, tap, '?connection=c2&view=sequence', { width: 400 });
    await small.waitForSelector('g.arrow');
    const room = await small.locator('#detail h2').evaluate(head => head.getBoundingClientRect().right);
    for (const part of await small.locator('#detail h2 > *:not([hidden])').all()) {
      const { right, overflow } = await part.evaluate(element => ({ right: element.getBoundingClientRect().right, overflow: getComputedStyle(element).textOverflow }));
      assert.ok(right <= room && overflow === 'ellipsis', `${await part.textContent()} ends at ${right} of ${room}`);
    }
    await small.close();
    for (const width of [400, 900, 1280]) {
      const view = await openTap(browser, tap, '', { width });
      const height = () => view.locator('#top').evaluate(head => head.getBoundingClientRect().height);
      const fits = async () => assert.ok((await view.locator('#help-button').evaluate(button => button.getBoundingClientRect().right)) <= width, `a button sticks out at ${width}`);
      const before = await height();
      await fits();
      await view.route('**/api/live', route => route.abort());
      await view.reload();
      await view.locator('#status', { hasText: 'disconnected: the ferry cannot be reached' }).waitFor();
      assert.ok((await height()) <= before + 50, `at ${width} it is ${await height()} high instead of ${before}`);
      await fits();
      await view.close();
    }
  });

  await check('the end of a busy list can be left, and found again', async () => {
    await page.keyboard.press('Escape');
    await page.keyboard.press('End');
    let next = 200;
    const busy = setInterval(() => tap.exchange(next++, { outcome: 'sent' }), 10);
    const away = () => page.locator('#list').evaluate(list => list.scrollHeight - list.clientHeight - list.scrollTop);
    try {
      await until('the list to move', async () => (await page.locator(ROW, { hasText: 'tool-210' }).count()) === 1, 5);
      await page.locator('#list').hover();
      await page.mouse.wheel(0, -300);
      await until('the list to stand', async () => (await away()) > 300, 5);
      await page.click('#newest');
      await until('the list to follow again', async () => (await away()) < 28 && (await page.locator('#newest').isHidden()), 5);
    } finally {
      clearInterval(busy);
    }
  });

  await check('what waited during a pause does not come back when it was cleared meanwhile', async () => {
    const pause = text => until(text, async () => (await page.textContent('#pause')) === text, 5);
    await page.click('#pause');
    tap.exchange(9001);
    await pause('go on (1 waiting)');
    await page.click('#clear');
    await pause('go on');
    assert.equal(await page.textContent('#count'), '0 exchanges');
    tap.exchange(9002);
    await pause('go on (1 waiting)');
    await page.click('#pause');
    await until('what came since', async () => (await page.locator(`${ROW} .name`).allTextContents()).join() === 'tool-9002', 5);
  });

  await check('all of that without an error or a report of the policy', async () => innocent(page));
  await page.close();
  tap.close();
  await ferry.end('SIGINT', 40);
}
