// The pane while what it shows goes on: reading, folding, selecting and copying are not disturbed by what comes.
import assert from 'node:assert/strict';
import { check, innocent, openTap, ROW, startFerry, until } from './rig.mjs';
import { called, progress, startStandIn } from './standin.mjs';

export async function pane({ browser, mirror }) {
  const ferry = await startFerry(mirror.url);
  const tap = await startStandIn(ferry);
  tap.connection('c1');
  tap.exchange(1);
  tap.record(0, called(1));
  for (let i = 1; i <= 12; i++) tap.record(i, progress(1));
  const page = await openTap(browser, tap);
  const grown = async (selector, act) => {
    const before = await page.locator(selector).count();
    act();
    await until(`more of ${selector}`, async () => (await page.locator(selector).count()) > before);
  };
  const more = () => tap.record(1000 + tap.records.length, progress(1));

  await check('a card that is read stays as it is while the exchange grows', async () => {
    await page.locator(ROW).first().click();
    const card = page.locator('.card').nth(3);
    await card.locator('.fold').nth(1).click();
    await page.locator('.card').first().locator('.headers summary').click();
    await card.getByText('raw', { exact: true }).focus();
    await page.locator('.content').evaluate(content => (content.scrollTop = 150));
    await page.evaluate(() => getSelection().selectAllChildren(document.querySelectorAll('.card')[4].querySelector('.tree')));
    const seen = () =>
      page.evaluate(() => ({
        folded: document.querySelectorAll('.card [aria-expanded=false]').length,
        heads: document.querySelectorAll('.card details[open]').length,
        focus: document.activeElement.textContent,
        scrolled: document.querySelector('.content').scrollTop,
        selected: getSelection().toString(),
      }));
    const before = await seen();
    assert.deepEqual([before.folded, before.heads, before.focus, before.scrolled], [1, 0, 'raw', 150]);
    assert.match(before.selected, /progressToken/);
    await grown('.card', more);
    await grown('.card', more);
    assert.deepEqual(await seen(), before);
  });

  await check('a card whose message the ferry has changed meanwhile says so', async () => {
    assert.equal(await page.locator('.card .changed, .card .removed').count(), 0);
    await grown('.card', () => tap.record(2000, { ...progress(1, 'ferry', 'client'), body: { jsonrpc: '2.0', method: 'x' } }));
    await page.locator('.card.server .removed').first().waitFor();
  });

  await check('a message is called an event only where it surely is one', async () => {
    await page.locator('.card.client .badge', { hasText: 'event' }).waitFor();
    assert.equal(await page.locator('.badge', { hasText: /^event$/ }).count(), 1);
    tap.connection('c1', { front: 'session' });
    await grown('.card', more);
    assert.equal(await page.locator('.badge', { hasText: /^event$/ }).count(), 0);
    tap.connection('c1');
  });

  await check('an arrow keeps the focus, and its record what was folded, while the sequence grows', async () => {
    await page.getByRole('tab', { name: 'sequence' }).click();
    await page.locator('g.arrow').nth(2).focus();
    await page.keyboard.press('Enter');
    await page.locator('.picked .fold').nth(1).click();
    await grown('g.arrow', more);
    assert.equal(await page.locator('.picked [aria-expanded=false]').count(), 1);
    assert.equal(await page.evaluate(() => document.activeElement.className), 'fold');
    await page.locator('g.arrow').nth(4).focus();
    await grown('g.arrow', more);
    assert.equal(await page.evaluate(() => document.activeElement.dataset.seq), '5');
    assert.equal(await page.locator('g.arrow[tabindex="0"]').count(), 1);
    // Of another width all is drawn anew.
    await page.setViewportSize({ width: 1000, height: 800 });
    await until('the narrower drawing', async () => (await page.locator('svg.sequence').getAttribute('width')) < 700);
    assert.equal(await page.evaluate(() => document.activeElement.dataset.seq), '5');
    await page.setViewportSize({ width: 1280, height: 800 });
  });

  await check('a record that was closed stays closed', async () => {
    await page.getByRole('button', { name: 'Close the message' }).click();
    await grown('g.arrow', more);
    assert.equal(await page.locator('.picked .card, g.arrow.selected').count(), 0);
  });

  await check('raw records that are selected stay so while others come', async () => {
    await page.getByRole('tab', { name: 'raw' }).click();
    await page.evaluate(() => getSelection().selectAllChildren(document.querySelector('.record-line')));
    const selected = () => page.evaluate(() => getSelection().toString());
    assert.match(await selected(), /"seq":1,/);
    await grown('.record-line', more);
    assert.match(await selected(), /"seq":1,/);
    await page.getByText(`${tap.records.length} records`).waitFor();
  });

  await check('labels stand out from the lines that they cross, also where the mouse is', async () => {
    tap.connection('c3', { front: 'pass' });
    tap.record(0, { ...progress(undefined, 'client', 'server'), connection: 'c3' });
    await page.goto(`${tap.tap}/?connection=c3&view=sequence`);
    const label = page.locator('g.arrow .label');
    const seen = () =>
      label.evaluate(text => {
        const { paintOrder, stroke, strokeWidth } = getComputedStyle(text);
        const line = document.querySelector('.life.ferry').getBoundingClientRect();
        const box = text.getBoundingClientRect();
        const crossed = line.left > box.left && line.right < box.right;
        return { crossed, paintOrder, wide: parseFloat(strokeWidth) > 6, ground: stroke === getComputedStyle(document.querySelector('.content')).backgroundColor };
      });
    assert.deepEqual(await seen(), { crossed: true, paintOrder: 'stroke', wide: true, ground: true });
    await page.locator('g.arrow').hover();
    assert.deepEqual(await seen(), { crossed: true, paintOrder: 'stroke', wide: true, ground: false });
  });

  await check('arrows to and from the server say which call they belong to, at any width', async () => {
    const http = { method: 'GET', target: '/mcp', headers: [] };
    const server = { connection: 'c4', from: 'server', to: 'ferry' };
    tap.connection('c4');
    tap.record(0, { kind: 'message', connection: 'c4', from: 'ferry', to: 'server', call: 2, purpose: 'listen', http });
    tap.record(1, { ...called(9), connection: 'c4' });
    tap.record(2, { ...called(9), connection: 'c4', from: 'ferry', to: 'server', call: 3 });
    tap.record(3, { ...server, kind: 'status', status: 200, call: 2, headers: [] });
    tap.record(4, { ...server, kind: 'ended', call: 2, why: 'the ferry ended it' });
    for (const [width, words] of [[1280, ['call 2', 'call 3', 'call 2', 'call 2']], [400, ['2', '3', '2', '2']]]) {
      await page.setViewportSize({ width, height: 800 });
      await page.goto(`${tap.tap}/?connection=c4&view=sequence`);
      await page.locator('g.arrow').nth(4).waitFor();
      assert.deepEqual(await page.locator('g.arrow .call').allTextContents(), words);
      const [edge, ...ends] = await page.evaluate(() => [...document.querySelectorAll('svg.sequence, g.arrow .call')].map(element => element.getBoundingClientRect().right));
      assert.ok(ends.every(end => end <= edge), `${ends} in ${edge}`);
    }
    await page.setViewportSize({ width: 1280, height: 800 });
    const end = page.locator('g.arrow').last();
    assert.match(await end.getAttribute('aria-label'), /^ferry to server: ended: the ferry ended it, call 2,/);
    assert.doesNotMatch(await end.getAttribute('class'), /bad/);
    await end.click();
    await page.locator('.picked .card:not(.bad) .way', { hasText: 'ferry → server' }).waitFor();
  });

  await check('the pane does not say of texts that it has not what they are', async () => {
    for (const [exchange, more] of [[20, {}], [21, { text: '{"js', cut: true }]]) {
      tap.exchange(exchange);
      const message = { ...called(exchange), body: undefined, ...more };
      tap.record(0, message);
      tap.record(1, { ...message, from: 'ferry', to: 'server', call: 5 });
    }
    tap.exchange(22);
    tap.record(0, called(22));
    for (const [exchange, said] of [[20, 'not known: texts are not kept.'], [21, 'not known: texts are cut.'], [22, 'Nothing of it has been sent to the server.']]) {
      await page.goto(`${tap.tap}/?exchange=${exchange}`);
      await page.locator('.legend', { hasText: said }).waitFor();
    }
  });

  await check('a long sequence has one time base, and its window waits for the reader', async () => {
    tap.connection('c2');
    const long = i => tap.record(i * 1000, { ...progress(undefined), connection: 'c2' });
    for (let i = 0; i < 450; i++) long(i);
    await page.goto(`${tap.tap}/?connection=c2&view=sequence`);
    const where = text => page.locator('.pages', { hasText: text }).waitFor();
    await where('51 to 450 of 450');
    assert.equal(await page.locator('g.arrow .offset').first().textContent(), '+50.000 s');
    await page.locator('g.arrow').first().click();
    await page.locator('.picked .card time', { hasText: '+50.000 s' }).waitFor();
    long(450);
    await where('51 to 450 of 451');
    assert.equal(await page.locator('g.arrow.selected').count(), 1);
    await page.getByRole('button', { name: 'Close the message' }).click();
    await where('52 to 451 of 451');
    // So does a page that was turned to.
    await page.getByRole('button', { name: 'earlier' }).click();
    await where('1 to 400 of 451');
    long(451);
    await where('1 to 400 of 452');
    await page.getByRole('button', { name: 'later' }).click();
    await where('53 to 452 of 452');
    long(452);
    await where('54 to 453 of 453');
  });

  await check('all of that without an error or a report of the policy', async () => innocent(page));
  await page.close();
  tap.close();
  await ferry.end('SIGINT', 40);
}
