// What the page exports, judged by others: lines that are JSON, an archive that a HAR validator accepts, diagrams that Mermaid
// draws, a curl command that a shell takes apart as it should.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { check, innocent, openNewest, openTap } from './rig.mjs';

const { har: validate } = createRequire(new URL('../', import.meta.url))('har-validator');
const MERMAID = new URL('../node_modules/mermaid/dist/mermaid.min.js', import.meta.url);

// Chooses an export and reads the file that comes of it.
export async function saved(page, menu, choice) {
  await page.locator(`${menu} summary`).click();
  const [download] = await Promise.all([page.waitForEvent('download'), page.locator(menu).getByRole('button', { name: choice, exact: true }).click()]);
  return { name: download.suggestedFilename(), text: readFileSync(await download.path(), 'utf8') };
}

// A page of another origin that has Mermaid, and draws what it is given.
export async function mermaidPage(browser) {
  const server = createServer((req, res) => {
    if (req.url === '/mermaid.js') return res.writeHead(200, { 'content-type': 'text/javascript' }).end(readFileSync(MERMAID));
    res.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>x</title><script src="/mermaid.js"></script>');
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const draw = text =>
    page.evaluate(async source => {
      mermaid.initialize({ startOnLoad: false, maxTextSize: 1e7 });
      const { svg } = await mermaid.render('drawing', source);
      const box = document.createElement('div');
      box.innerHTML = svg;
      const count = selector => box.querySelectorAll(selector).length;
      return { messages: count('.messageText'), actors: count('text.actor-box'), foreign: count('script, img, iframe, [onerror], [onload]'), text: box.textContent, ran: Boolean(globalThis.ran) };
    }, text);
  return { draw, close: async () => (await page.close(), server.close()) };
}

export async function files({ browser, ferry, modern }) {
  const page = await openTap(browser, ferry);
  let rows;

  await check('JSONL has every record that is stored, or those of what is shown', async () => {
    const all = await saved(page, '#export', 'JSONL');
    assert.equal(all.name, 'mcp-ferry.jsonl');
    const records = all.text.trimEnd().split('\n').map(line => JSON.parse(line));
    assert.ok(records.length > 50 && records.every(record => record.v === 1));
    assert.deepEqual([...new Set(records.map(record => record.seq))], records.map(record => record.seq));
    await page.fill('#name', 'echo');
    const some = (await saved(page, '#export', 'JSONL')).text.trimEnd().split('\n').map(line => JSON.parse(line));
    rows = new Set(some.map(record => record.exchange));
    assert.equal(rows.size, 2);
    assert.ok(some.length < records.length);
    await page.click('#reset');
  });

  await check('HAR is valid, with both legs of translated calls and with passed traffic', async () => {
    const { name, text } = await saved(page, '#export', 'HAR');
    assert.equal(name, 'mcp-ferry.har');
    const archive = JSON.parse(text);
    await validate(archive);
    const { entries } = archive.log;
    const tool = entries.filter(entry => entry.request.postData?.text.includes('"name":"echo"'));
    assert.deepEqual(tool.map(entry => entry.comment).sort(), ['passed through, tools/call', 'sent by the ferry, tools/call']);
    const translated = tool.find(entry => entry._clientLeg?.length > 0);
    assert.deepEqual(translated._clientLeg.map(record => record.from), ['client', 'ferry', 'ferry']);
    assert.ok(translated.response.content.text.includes('both-legs-4711'));
    assert.ok(entries.some(entry => entry._purpose === 'listen'));
  });

  await check('a HAR validator does find fault with what is none', async () => {
    await assert.rejects(validate({ log: { version: '1.2', entries: [{ request: {} }] } }));
  });

  const mermaid = await mermaidPage(browser);
  await check('Mermaid draws a message for every record of an exchange, and of all', async () => {
    await openNewest(page, 'sampling/createMessage', 'sampled what is asked');
    const cards = await page.locator('.legs .card').count();
    const one = await saved(page, '#detail .menu', 'Mermaid');
    const drawn = await mermaid.draw(one.text);
    assert.equal(drawn.messages, cards);
    assert.match(drawn.text, /sampling\/createMessage/);
    const all = await saved(page, '#export', 'Mermaid');
    assert.ok((await mermaid.draw(all.text)).messages > 50);
  });
  await mermaid.close();

  await check('the curl command is the call to the server, whole but for what was redacted', async () => {
    const text = `it's "$HOME" \`id\` \\ \u202E`;
    await modern.call('echo', { text });
    await openNewest(page, 'echo', '$HOME');
    await page.locator('#detail .menu summary').click();
    await page.getByRole('button', { name: 'copy curl' }).click();
    await page.getByRole('button', { name: 'copied' }).waitFor();
    const command = await page.evaluate(() => navigator.clipboard.readText());
    const shell = `curl() { printf '%s\\0' "$@"; }\n${command}\n`;
    const given = execFileSync('/bin/sh', ['-c', shell], { encoding: 'utf8', env: {} }).split('\0');
    assert.equal(given[given.indexOf('--url') + 1], ferry.upstream);
    assert.ok(given.includes('mcp-session-id: <MCP_SESSION_ID>'));
    assert.equal(JSON.parse(given[given.indexOf('--data-raw') + 1]).params.arguments.text, text);
  });

  await innocent(page);
  await page.close();
}
