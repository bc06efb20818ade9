// The page in the hands of a person: filters and their address, the keyboard, pause, clear, narrow and dark, and a ferry that goes
// and comes back.
import assert from 'node:assert/strict';
import { address, check as plainCheck, column, innocent, OldClient, openTap, ROW, says, startFerry, until } from './rig.mjs';

// Each check begins with the whole list, whatever the one before has left.
let begin = async () => {};
const check = (name, run) => plainCheck(name, async () => (await begin(), run()));

export async function use({ browser, mirror }) {
  let ferry = await startFerry(mirror.url);
  const client = await OldClient.open(ferry.url);
  const other = await OldClient.open(ferry.url, { name: 'second-client', version: '2' });
  for (const name of ['alpha', 'beta', 'gamma']) await client.call(name);
  await client.call('fail');
  await client.call('delta', { error: true, hidden: 'needle-in-the-body' });
  await other.call('alpha');
  const page = await openTap(browser, ferry);
  begin = async () => {
    await page.goto(`${ferry.tap}/`);
    await page.waitForSelector('#status[data-state=live]');
  };
  const names = () => column(page, 'name');
  const shows = async (wanted, what = 'the list') => {
    let seen;
    const same = async () => (seen = (await names()).join()) === wanted.join();
    await until(`${what} to be ${wanted}`, same, 20).catch(error => assert.fail(`${error.message}; it is ${seen}`));
  };

  await check('filters narrow the list, live in the address, and come back with it', async () => {
    await page.fill('#name', 'a');
    await page.fill('#method', 'tools');
    await shows(['alpha', 'beta', 'gamma', 'fail', 'delta', 'alpha']);
    await page.locator('.connection', { hasText: 'old-client' }).click();
    await shows(['alpha', 'beta', 'gamma', 'fail', 'delta']);
    await page.check('#errors');
    await shows(['fail', 'delta']);
    await page.selectOption('#outcome', 'error');
    await shows(['delta']);
    const { searchParams } = await address(page);
    assert.deepEqual(Object.fromEntries(searchParams), { connection: 'c1', method: 'tools', name: 'a', outcome: 'error', errors: '1' });
    await page.reload();
    await shows(['delta'], 'the reloaded list');
    assert.equal(await page.inputValue('#name'), 'a');
    assert.equal(await page.textContent('#count'), '1 of 10');
    await page.click('#reset');
    assert.equal((await address(page)).search, '');
  });

  await check('a search finds words in the lists, and with Enter in the bodies', async () => {
    await page.fill('#q', 'second-client alpha');
    await shows(['alpha']);
    await page.fill('#q', 'needle-in-the-body');
    await shows([]);
    await page.locator('#empty', { hasText: 'Nothing matches' }).waitFor();
    await page.press('#q', 'Enter');
    await shows(['delta']);
    // A piece of a message, as it is copied.
    await page.fill('#q', '"hidden":"needle');
    await page.press('#q', 'Enter');
    await shows(['delta']);
  });

  await check('only the slow ones, also while they wait', async () => {
    void client.call('never').catch(() => {});
    await page.fill('#slow', '1500');
    await page.check('#slow-on');
    await shows(['never']);
    assert.match((await address(page)).search, /slow=1500/);
    // Any number is taken at its word, and what is typed after it too.
    for (const [text, query] of [['0', '?slow=0'], ['-5', '?slow=0'], ['', '?slow=1000'], ['1500', '?slow=1500']]) {
      await page.fill('#slow', text);
      assert.deepEqual([(await address(page)).search, await page.isChecked('#slow-on')], [query, true], text);
      if (query === '?slow=0') assert.equal(await page.textContent('#count'), '11 of 11');
    }
    await shows(['never']);
    await page.click('#reset');
    assert.deepEqual([await page.inputValue('#slow'), await page.isChecked('#slow-on')], ['1000', false]);
  });

  await check('the old transport alone, by a click', async () => {
    await page.click('#fronts .chip.session');
    await shows([]);
    await page.click('#fronts .chip.sse');
    await until('all rows', async () => (await page.locator(ROW).count()) === 11);
  });

  await check('the keyboard goes through the list, opens, closes, and finds its way to every view', async () => {
    await page.focus('#list');
    await page.keyboard.press('Home');
    await page.keyboard.press('j');
    await page.keyboard.press('j');
    await page.keyboard.press('k');
    const selected = () => page.locator(`${ROW}[aria-selected=true] .method`).textContent();
    assert.equal(await selected(), 'initialize');
    await page.keyboard.press('Enter');
    await page.waitForSelector('.card.server');
    await page.keyboard.press('s');
    await page.waitForSelector('g.arrow');
    assert.match((await address(page)).search, /exchange=1&view=sequence/);
    await page.reload();
    await page.waitForSelector('g.arrow');
    await page.keyboard.press('s');
    await page.waitForSelector('.legs');
    await page.keyboard.press('Escape');
    assert.equal(await page.locator('#detail').isVisible(), false);
    await page.keyboard.press('/');
    await page.keyboard.type('p?s');
    assert.equal(await page.inputValue('#q'), 'p?s');
    await page.fill('#q', '');
    await page.keyboard.press('Escape');
    await page.keyboard.press('e');
    await shows(['fail', 'delta']);
    await page.keyboard.press('?');
    await page.waitForSelector('#help[open]');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#help', { state: 'hidden' });
  });

  await check('a pause holds the lists still and says how much waits', async () => {
    await page.keyboard.press('p');
    await page.locator('#status', { hasText: 'paused' }).waitFor();
    const before = await names();
    await client.call('while-paused');
    // The connection has changed too, but what waits are exchanges.
    await says(page, '#pause', 'go on (1 waiting)');
    assert.deepEqual(await names(), before);
    await page.keyboard.press('p');
    await page.locator('#status', { hasText: 'live' }).waitFor();
    await page.locator(ROW, { hasText: 'while-paused' }).waitFor();
  });

  await check('a page that was too slow says what it missed, and loads the lists anew', async () => {
    const body = 'event: hello\ndata: {"seq":1}\n\nevent: missed\ndata: {"count":7}\n\n';
    await page.route('**/api/live', route => route.fulfill({ contentType: 'text/event-stream', body }), { times: 1 });
    await page.reload();
    await page.locator('#notice', { hasText: 'missed 7 changes' }).waitFor();
    await page.waitForSelector('#status[data-state=live]');
    await client.call('after-the-loss');
    await page.locator(ROW, { hasText: 'after-the-loss' }).waitFor();
  });

  await check('what the tap could not record is counted, and the rate is said to be a part', async () => {
    let missed = 61_913;
    let complete = false;
    await page.route('**/api/state', async route => {
      const response = await route.fetch();
      const state = await response.json();
      assert.equal(state.complete, false, 'only the page looks');
      await route.fulfill({ response, json: { ...state, missed, complete } });
    });
    const said = { v: 1, seq: 2, time: '2026-01-01T00:00:00.000000Z', kind: 'missed', count: 5 };
    const body = `event: hello\ndata: {"seq":1}\n\nevent: record\ndata: ${JSON.stringify(said)}\n\n`;
    await page.route('**/api/live', route => route.fulfill({ contentType: 'text/event-stream', body }), { times: 1 });
    await page.reload();
    await page.locator('#count', { hasText: ', 61,913 not recorded' }).waitFor();
    assert.match(await page.locator('#count').getAttribute('title'), /with --tap-file/);
    missed += 5;
    // Whoever has given the flag is not told to give it.
    complete = true;
    await page.locator('#count', { hasText: ', 61,918 not recorded' }).waitFor();
    assert.match(await page.locator('#count').getAttribute('title'), /^The ferry had no time/);
    await page.locator('#charts', { hasText: /≥ [\d.]+\/s/ }).waitFor();
    await page.unrouteAll({ behavior: 'wait' });
    await page.reload();
    await page.waitForSelector('#status[data-state=live]');
    await page.locator('#count', { hasText: /exchanges$/ }).waitFor();
  });

  await check('clear forgets what is over and keeps what is open', async () => {
    await page.click('#clear');
    await shows(['never'], 'the cleared list');
    assert.equal(await page.locator('.connection').count(), 2);
    await says(page, '#count', '1 exchange');
  });

  await check('a call that its client gave up is not drawn as the server’s doing', async () => {
    const stop = new AbortController();
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-11-25' };
    const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'never', arguments: { given: 'up' } } });
    const given = fetch(`${ferry.url}/mcp`, { method: 'POST', headers, body, signal: stop.signal }).catch(error => error.name);
    await page.locator('.connection .badge.pass').first().waitFor();
    await page.locator(`${ROW}.open`, { hasText: 'never' }).nth(1).waitFor();
    stop.abort();
    assert.equal(await given, 'AbortError');
    await page.locator(`${ROW}.lost`, { hasText: 'never' }).click();
    await page.keyboard.press('s');
    const end = page.locator('g.arrow', { hasText: 'the client gave it up' });
    assert.match(await end.getAttribute('aria-label'), /^client to server: /);
    assert.doesNotMatch(await end.getAttribute('class'), /bad/);
  });

  await check('at 400 pixels nothing is out of reach and nothing sticks out', async () => {
    await client.call('narrow');
    const small = await openTap(browser, ferry, '', { width: 400, height: 760 });
    const wide = () => small.evaluate(() => document.documentElement.scrollWidth);
    assert.ok((await wide()) <= 400);
    await small.click('[data-place=connections]');
    await small.locator('.connection', { hasText: 'old-client' }).click();
    await small.click('[data-place=exchanges]');
    await small.locator(ROW, { hasText: 'narrow' }).click();
    await small.locator('.card.server').first().waitFor();
    assert.ok((await wide()) <= 400);
    const { width } = await small.locator('.card.client').first().boundingBox();
    assert.ok(width > 340, `a card is ${width} wide`);
    await small.getByRole('tab', { name: 'sequence' }).click();
    await small.locator('g.arrow').first().click();
    await small.locator('.picked .card').waitFor();
    assert.ok((await wide()) <= 400);
    await small.click('#detail .close');
    await small.locator(ROW).first().waitFor();
    await innocent(small);
    await small.close();
  });

  await check('light and dark, as the system says or as chosen, with text that can be read', async () => {
    await page.locator(ROW, { hasText: 'narrow' }).click();
    await page.waitForSelector('.card.server');
    const grounds = new Set();
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      grounds.add(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      assert.deepEqual(await page.evaluate(faintTexts), []);
    }
    assert.equal(grounds.size, 2);
    await page.click('#theme');
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'light');
    await page.click('#theme');
    await page.reload();
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
    await page.click('#theme');
  });

  await check('the page says when the ferry has gone, and goes on when it is back', async () => {
    await client.close();
    await other.close();
    const { port, tap, token } = ferry;
    await ferry.end('SIGINT', 40);
    await page.locator('#status', { hasText: 'disconnected' }).waitFor();
    const again = { listen: `127.0.0.1:${port}`, admin: new URL(tap).host, env: { MCP_FERRY_ADMIN_TOKEN: token } };
    ferry = await startFerry(mirror.url, again);
    await page.waitForSelector('#status[data-state=live]');
    assert.equal(await page.locator(ROW).count(), 0);
    await says(page, '#notice', 'The ferry was restarted; what was there before is gone.');
    const back = await OldClient.open(ferry.url);
    await back.call('after-the-restart');
    await page.locator(ROW, { hasText: 'after-the-restart' }).waitFor();
    await back.close();
    await innocent(page, /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|net::ERR/);
  });
  await page.close();
  await ferry.end('SIGINT', 40);
}

// Runs in the page: texts whose contrast to their ground is under 4.5, as WCAG 2 counts it.
function faintTexts() {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const paint = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) (canvas.fillStyle = color), canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => rgb.map(v => v / 255).map(v => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const faint = new Set();
  for (const element of document.querySelectorAll('#app *')) {
    const text = [...element.childNodes].some(node => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!text || !element.checkVisibility() || element.closest('svg, option, :disabled, [hidden], .closed')) continue;
    const grounds = [];
    for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(paint(grounds)), light(paint([...grounds, getComputedStyle(element).color]))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.add(`${element.className || element.tagName} ${ratio.toFixed(2)}`);
  }
  return [...faint];
}
