// The page before real clients: who is there, what crossed, both legs of it, and the sequence.
import assert from 'node:assert/strict';
import { address, check, innocent, openNewest, openPage, openTap, ROW, until } from './rig.mjs';

export async function views({ browser, ferry, open }) {
  let page, old, modern;

  await check('without a token, or with a wrong one, the page asks for it and shows nothing', async () => {
    const stranger = await openPage(browser, `${ferry.tap}/`);
    await stranger.waitForSelector('#entry-token');
    assert.equal(await stranger.locator('#app').isVisible(), false);
    await stranger.fill('#entry-token', 'x'.repeat(43));
    await stranger.keyboard.press('Enter');
    await stranger.waitForSelector('text=does not know this token');
    assert.equal(await stranger.locator(ROW).count(), 0);
    // The whole address, as it was printed, will do.
    await stranger.fill('#entry-token', ferry.page);
    await stranger.keyboard.press('Enter');
    await stranger.waitForSelector('#status[data-state=live]');
    await innocent(stranger, /401/);
    await stranger.close();
  });

  await check('the token leaves the address bar, stays in the tab, and goes nowhere else', async () => {
    page = await openTap(browser, ferry);
    assert.equal((await address(page)).href, `${ferry.tap}/`);
    await page.reload();
    await page.waitForSelector('#status[data-state=live]');
    assert.equal(await page.evaluate(() => Object.keys(localStorage).some(key => localStorage[key].length > 30)), false);
  });

  await check('connections of real clients appear, and those of the old transport are told apart', async () => {
    old = await open('ts-1.0.4', `${ferry.url}/sse`);
    modern = await open('ts-1.32.2-http', `${ferry.url}/mcp`);
    const legacy = page.locator('.connection', { has: page.locator('.badge.sse') });
    await legacy.getByText('rig-client 1.0.0').waitFor();
    await legacy.getByText('2024-11-05 · handshake').waitFor();
    const passed = page.locator('.connection', { has: page.locator('.badge.pass') });
    await passed.getByText('rig-client 1.0.0').waitFor();
    await page.locator('#fronts .chip.sse', { hasText: 'old SSE 1' }).waitFor();
    assert.match(await legacy.locator('.session').textContent(), /^[0-9a-f]{6}$/);
    await page.locator(`${ROW} .method`, { hasText: 'initialize' }).first().waitFor();
  });

  await check('an exchange opens with both legs, and what the ferry changed is marked', async () => {
    await old.call('echo', { text: 'both-legs-4711' });
    await openNewest(page, 'echo', 'both-legs-4711');
    await page.locator('.card.client', { hasText: 'both-legs-4711' }).first().waitFor();
    await page.locator('.card.server', { hasText: 'both-legs-4711' }).first().waitFor();
    await page.locator('.card.client .request-line', { hasText: 'POST /messages' }).waitFor();
    await page.locator('.card.server .request-line', { hasText: 'POST /mcp' }).waitFor();
    await page.locator('.card.client', { hasText: 'HTTP 202' }).waitFor();
    await page.locator('.card.server', { hasText: 'HTTP 200' }).waitFor();
    assert.ok((await page.locator('.card.server .header.added').count()) > 0, 'no header is marked as added');
    await page.locator('.card.server .header.added', { hasText: 'mcp-session-id' }).first().waitFor();
    assert.match(await page.locator('.request-line .secret').first().textContent(), /^\[(hash [0-9a-f]+|redacted)\]$/);
    // Request and what became of it begin at the same height, and so do answer and event.
    const tops = selector => page.locator(selector).evaluateAll(cards => cards.map(card => card.getBoundingClientRect().top));
    assert.equal((await tops('.legs .card.client'))[0], (await tops('.legs .card.server'))[0]);
  });

  await check('the tree folds, its raw text and the copy are the message', async () => {
    const card = page.locator('.card.client').first();
    await card.locator('.fold').first().click();
    await card.locator('[role=treeitem]').first().waitFor();
    assert.equal(await card.locator('[aria-expanded=false]').count(), 1);
    await card.getByText('raw', { exact: true }).click();
    assert.match(await card.locator('pre').textContent(), /"text": "both-legs-4711"/);
    await card.getByText('copy', { exact: true }).click();
    await card.getByText('copied', { exact: true }).waitFor();
    assert.equal(JSON.parse(await page.evaluate(() => navigator.clipboard.readText())).params.name, 'echo');
  });

  await check('numbers are shown as they were sent', async () => {
    const shown = await page.evaluate(async () => {
      const { tree } = await import('/tree.js');
      const { parse } = await import('/json.js');
      return tree(parse('{"a":9007199254740993,"b":1.0,"c":1e400}')).textContent;
    });
    assert.match(shown, /a: 9007199254740993b: 1\.0c: 1e400/);
  });

  await check('passed-through traffic has one leg, and nothing is said to be changed', async () => {
    await modern.call('echo', { text: 'straight-through' });
    await openNewest(page, 'echo', 'straight-through');
    await page.locator('.legs.passed .card', { hasText: 'straight-through' }).first().waitFor();
    assert.equal(await page.locator('#detail .added, #detail .removed, #detail .changed').count(), 0);
  });

  await check('what the server asks the client is an exchange of its own', async () => {
    await old.call('sample', { text: 'what is asked' });
    await openNewest(page, 'sampling/createMessage', 'sampled what is asked');
    await page.locator(`${ROW}[aria-selected=true] .way`, { hasText: '←' }).waitFor();
    await page.locator('.card.client', { hasText: 'sampled what is asked' }).first().waitFor();
    await page.locator('.card.server', { hasText: 'sampled what is asked' }).first().waitFor();
  });

  await check('a call that waits has a clock, and its outcome once it has one', async () => {
    await page.keyboard.press('Escape');
    const waiting = old.call('slow', { key: 'hanging' }).catch(() => {});
    const row = page.locator(`${ROW}.open`, { hasText: 'slow' });
    const before = await row.locator('.took').textContent();
    await until('the clock to go on', async () => (await row.locator('.took').textContent()) !== before);
    await page.locator('.connection .flying', { hasText: '1 open' }).first().waitFor();
    await old.client.close();
    await waiting;
    await page.locator(`${ROW}:not(.open)`, { hasText: 'slow' }).waitFor();
    await page.locator('li.closed .connection', { hasText: 'closed' }).waitFor();
  });

  await check('the sequence is drawn for an exchange, and an arrow opens its record', async () => {
    await openNewest(page, 'sampling/createMessage', 'sampled what is asked');
    await page.getByRole('tab', { name: 'sequence' }).click();
    const arrows = page.locator('g.arrow');
    await arrows.first().waitFor();
    assert.ok((await arrows.count()) >= 6, `${await arrows.count()} arrows`);
    await arrows.first().focus();
    await page.keyboard.press('ArrowDown');
    await page.keyboard.press('Enter');
    await page.locator('.picked .card').waitFor();
    assert.equal(await page.locator('g.arrow.selected').count(), 1);
  });

  await check('the sequence of a whole connection has its handshake, and leads to its exchanges', async () => {
    await page.getByRole('button', { name: 'whole connection' }).click();
    await page.locator('g.arrow', { hasText: 'initialize' }).first().waitFor();
    assert.match((await address(page)).search, /connection=c\d+&view=sequence/);
    // Its client has left: that is no fault, and not the server's doing.
    const ended = page.locator('g.arrow', { hasText: 'the ferry ended it' }).first();
    assert.match(await ended.getAttribute('aria-label'), /^ferry to server: .*, call \d+,/);
    assert.equal(await page.locator('g.arrow.bad', { hasText: 'the ferry ended it' }).count(), 0);
    await page.locator('g.arrow.request', { hasText: 'echo' }).first().click();
    await page.locator('.picked').getByRole('button', { name: /^exchange \d+/ }).click();
    await page.locator('.card.server', { hasText: 'both-legs-4711' }).first().waitFor();
  });

  await check('all of that without an error or a report of the policy', async () => {
    await innocent(page);
    await page.close();
  });
  return { modern };
}
