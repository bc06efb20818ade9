// A client and a server that both want to harm the reader: hostile text as tool names, arguments, ids, header values, names of
// clients and servers, results and errors. All of it is looked at, in every view; nothing runs.
import assert from 'node:assert/strict';
import { check, innocent, OldClient, openTap, ROW, startFerry, until } from './rig.mjs';
import { mermaidPage, saved } from './files.mjs';
import { PAYLOADS } from './payloads.mjs';

const ascii = text => encodeURI(text).replace(/[^\x20-\x7e]/g, '?').slice(0, 1000);
const rawAscii = text => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 1000);

const DEEP = '['.repeat(30_000) + ']'.repeat(30_000);

// Sends every payload in every place.
async function plant(ferry) {
  const clients = [];
  for (const name of PAYLOADS.filter((_, i) => i % 20 === 0)) clients.push(await OldClient.open(ferry.url, { name, version: name }));
  for (const [i, payload] of PAYLOADS.entries()) {
    const client = clients[i % clients.length];
    const headers = { 'x-raw': rawAscii(payload), 'x-coded': ascii(payload), 'user-agent': rawAscii(payload) || 'x' };
    const args = { [payload]: payload, list: [payload, { [payload]: [payload] }], error: i % 3 === 0 };
    await client.call(payload, args, { id: `${payload}#${i}`, headers });
    if (i % 10 === 0) await client.post({ jsonrpc: '2.0', method: `notifications/${payload}`, params: { [payload]: payload } }, headers);
  }
  // The same straight through.
  for (const [i, payload] of PAYLOADS.entries()) {
    if (i % 5 !== 0) continue;
    const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2025-11-25', 'x-raw': rawAscii(payload) };
    const body = JSON.stringify({ jsonrpc: '2.0', id: payload, method: 'tools/call', params: { name: payload, arguments: { payload } } });
    const answer = await fetch(`${ferry.url}/mcp`, { method: 'POST', headers, body });
    await answer.arrayBuffer();
  }
  // So many levels overflow the stack of who reads them by recursion.
  const deep = await fetch(`${ferry.url}/mcp`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: DEEP });
  await deep.arrayBuffer();
  return clients;
}

// Runs in the page: what is on it that its own files did not put there.
function strangers() {
  const own = new Set(['/icon.svg']);
  const found = [...document.querySelectorAll('script, img, iframe, object, embed, video, audio, base, meta[http-equiv], style, link, a[href], [style*=url]')].filter(element => {
    const at = element.getAttribute('src') ?? element.getAttribute('href');
    return !(own.has(at) || at === '/style.css' || at === '/page.js' || (element.matches('a.brand') && at === '/'));
  });
  const armed = [...document.querySelectorAll('*')].filter(element => element.getAttributeNames().some(name => name.startsWith('on')));
  return [...found, ...armed].map(element => element.outerHTML.slice(0, 200));
}

// Characters that are there to deceive must not be in what is shown, but for text that says it is whole lines.
function deceitful() {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/;
  return hidden.test(document.body.innerText) ? [document.body.innerText.match(hidden)[0].codePointAt(0).toString(16)] : [];
}

export async function hostile({ browser, mirror }) {
  const ferry = await startFerry(mirror.url, { flags: ['--max-connections-per-peer', '100'] });
  const clients = await plant(ferry);
  const page = await openTap(browser, ferry);
  const clean = async where => {
    assert.deepEqual(await page.evaluate(strangers), [], where);
    assert.deepEqual(await page.evaluate(deceitful), [], where);
    await innocent(page);
  };

  await check(`${PAYLOADS.length} hostile texts in the lists are nothing but text`, async () => {
    assert.ok(PAYLOADS.length >= 200);
    const count = await page.textContent('#count');
    assert.ok(Number(count.replace(/\D/g, '')) > PAYLOADS.length, count);
    await page.focus('#list');
    await page.keyboard.press('Home');
    for (let seen = 0; seen < PAYLOADS.length; seen += 20) {
      await page.locator('#list').evaluate((list, top) => (list.scrollTop = top), seen * 28);
      await page.waitForTimeout(0);
      await clean(`list at ${seen}`);
    }
    await page.locator('.connection b', { hasText: '<img src=x onerror=' }).first().waitFor();
  });

  await check('opened one by one, both legs of them are text too', async () => {
    await page.keyboard.press('Home');
    const rows = (await page.evaluate(async token => (await fetch('/api/rows', { headers: { authorization: `Bearer ${token}` } })).json(), ferry.token)).exchanges;
    for (const [i, { exchange }] of rows.entries()) {
      await page.evaluate(() => document.querySelector('#detail .content')?.replaceChildren());
      if (i === 0) await page.locator(ROW).first().click();
      else await page.keyboard.press('j');
      await page.locator(`#detail small`, { hasText: new RegExp(`#${exchange}$`) }).waitFor();
      await page.waitForSelector('#detail .card');
      if (i % 10 === 0) await clean(`exchange ${exchange}`);
    }
    await clean('the last exchange');
  });

  await check('a message of 30,000 levels is a text, and can be searched like all others', async () => {
    await page.goto(`${ferry.tap}/?q=${encodeURIComponent('[[[[]]]]')}`);
    await page.waitForSelector('#status[data-state=live]');
    await page.locator(ROW).first().waitFor();
    await page.locator(ROW).last().click();
    const text = page.locator('#detail .card pre', { hasText: DEEP });
    await text.first().waitFor();
    await clean('30,000 levels');
    await page.goto(`${ferry.tap}/`);
    await page.waitForSelector('#status[data-state=live]');
    await page.locator(ROW).first().click();
    await page.waitForSelector('#detail .card');
  });

  await check('so are the raw records, the sequences and what a filter takes', async () => {
    await page.getByRole('tab', { name: 'raw' }).click();
    await page.waitForSelector('.record-line');
    await clean('raw');
    const labels = await page.evaluate(async token => (await fetch('/api/rows', { headers: { authorization: `Bearer ${token}` } })).json(), ferry.token);
    for (const { connection } of labels.connections) {
      await page.goto(`${ferry.tap}/?connection=${encodeURIComponent(connection)}&view=sequence`);
      await page.waitForSelector('g.arrow');
      await clean(`sequence of ${connection}`);
    }
    for (const payload of PAYLOADS.filter((_, i) => i % 15 === 0)) {
      await page.goto(`${ferry.tap}/?q=${encodeURIComponent(payload)}&connection=${encodeURIComponent(payload)}&exchange=${encodeURIComponent(payload)}&view=${encodeURIComponent(payload)}`);
      await page.waitForSelector('#status[data-state=live]');
      await clean(`address with ${payload}`);
    }
  });

  await check('as a diagram Mermaid draws them as text', async () => {
    await page.goto(`${ferry.tap}/`);
    await page.waitForSelector('#status[data-state=live]');
    const mermaid = await mermaidPage(browser);
    const { text } = await saved(page, '#export', 'Mermaid');
    const lines = text.trimEnd().split('\n').slice(4);
    // Drawing takes Mermaid long: what says the same is drawn once.
    const messages = [...new Set(lines.filter(line => /^  client->>ferry: /.test(line)))];
    assert.ok(messages.length > 200);
    for (let at = 0; at < messages.length; at += 60) {
      const part = messages.slice(at, at + 60);
      const drawn = await mermaid.draw(`sequenceDiagram\n${part.join('\n')}\n`);
      assert.deepEqual({ messages: drawn.messages, foreign: drawn.foreign, ran: drawn.ran }, { messages: part.length, foreign: 0, ran: false });
    }
    await mermaid.close();
  });

  await check('a token that is hostile itself is only a wrong token', async () => {
    for (const payload of PAYLOADS.filter((_, i) => i % 40 === 0)) {
      await page.evaluate(() => sessionStorage.clear());
      await page.goto(`${ferry.tap}/?x=${Math.random()}#token=${encodeURIComponent(payload)}`);
      await until('the token’s screen', () => page.locator('#entry').isVisible());
      assert.deepEqual(await page.evaluate(strangers), []);
    }
    await innocent(page, /401/);
  });
  await page.close();
  for (const client of clients) await client.close();
  await ferry.end('SIGINT', 40);
}
