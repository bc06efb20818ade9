// The files and commands that the page exports. Whether other programs take them is tried in ../tap.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import test from 'node:test';
import { HOSTILE, module, passed, translated } from './page.mjs';

const { curl, shell, urlOf } = await module('curl');
const { curlOf } = await module('exports');
const { escapeText, mermaid } = await module('mermaid');
const { har } = await module('har');

const UPSTREAM = 'http://127.0.0.1:8000/mcp';

// What a shell makes of a command: its arguments, without running anything but printf.
function argumentsOf(command, shell = '/bin/sh') {
  const script = `curl() { printf '%s\\0' "$@"; }\n${command}\n`;
  return execFileSync(shell, ['-c', script], { encoding: 'utf8', env: {} }).split('\0').slice(0, -1);
}

test('a shell gives back what was quoted, whatever it was', () => {
  for (const text of [...HOSTILE, "'", "'\\''", '\n', '$HOME', '-n', "\t\\'!0", '\u00850', 'a\n!b']) {
    // Not every sh knows $'…'.
    const shells = shell(text).startsWith('$') ? ['bash'] : ['bash', '/bin/sh'];
    for (const program of shells) {
      assert.equal(execFileSync(program, ['-c', `printf %s ${shell(text)}`], { encoding: 'utf8' }), text);
    }
  }
});

test('a command has no character in it on which a terminal would act before the shell', () => {
  const codes = [...Array(0xa0).keys()].filter(code => /\p{Cc}/u.test(String.fromCharCode(code)));
  assert.equal(codes.length, 65);
  for (const code of codes) {
    const character = String.fromCharCode(code);
    const record = translated()[1];
    delete record.body;
    record.text = `it's${character}\ntouch x\n!!\n`;
    const command = curl(record, UPSTREAM);
    // Its own lines end where an argument does.
    const lines = command.split('\n').filter(line => !line.startsWith('#'));
    assert.ok(lines.every(line => !/\p{Cc}/u.test(line)), `U+${code.toString(16)}: ${command}`);
    assert.equal(lines.filter(line => !line.endsWith(' \\')).length, 1);
    assert.equal(argumentsOf(command, 'bash').at(-1), record.text.replaceAll('\0', ''), `U+${code.toString(16)}`);
    assert.equal(/^# The body has NUL/m.test(command), code === 0);
  }
  // What is harmless can be read by every shell.
  for (const text of ['a\n b', 'what!', '!\nx', 'é']) assert.equal(shell(text), `'${text}'`);
});

test('the curl command makes the call, with placeholders for what was redacted', () => {
  const command = curl(translated({ args: { text: "it's $HOME" } })[1], UPSTREAM);
  assert.match(command, /^# Fill in what the tap does not keep: authorization, mcp-session-id\n/);
  const given = argumentsOf(command);
  assert.deepEqual(given.slice(0, 6), ['--globoff', '--no-buffer', '--request', 'POST', '--url', 'http://127.0.0.1:8000/mcp?key=<SECRET>']);
  const headers = given.filter((_, i) => given[i - 1] === '--header');
  assert.deepEqual(headers, [
    ...['content-type: application/json', 'accept: application/json, text/event-stream'],
    ...['authorization: Bearer <AUTHORIZATION>', 'mcp-session-id: <MCP_SESSION_ID>'],
  ]);
  const body = JSON.parse(given[given.indexOf('--data-raw') + 1]);
  assert.equal(body.params.arguments.text, "it's $HOME");
});

test('no name makes the shell run or curl read anything else', () => {
  for (const name of HOSTILE) {
    const record = translated({ name, args: { [name]: name } })[1];
    record.http.headers.push(['mcp-name', name.replace(/[^\x20-\x7e]/g, '?')]);
    const given = argumentsOf(curl(record, UPSTREAM));
    assert.equal(given.length, 6 + 2 * 5 + 2, name);
    assert.deepEqual(JSON.parse(given.at(-1)).params.arguments, { [name]: name });
  }
});

test('a comment is harmless to a shell that takes it for a command', () => {
  const record = translated()[1];
  record.http.headers = [['token|`id`&$x;>y\n!', '[redacted]'], ['x-token_1.a', '[redacted]']];
  const [comment] = curl(record, UPSTREAM).split('\n');
  assert.equal(comment, '# Fill in what the tap does not keep: token??id???x??y??, x-token_1.a');
});

test('a header without a value is sent as such, and a cut body is said to be cut', () => {
  const record = translated()[1];
  record.http.headers = [['x-empty', '']];
  delete record.body;
  Object.assign(record, { text: '{"beginn', cut: true });
  const command = curl(record, UPSTREAM);
  assert.match(command, /--header 'x-empty;'/);
  assert.match(command, /^# The body was cut/m);
});

test('a call’s address is the target at the upstream’s origin', () => {
  assert.equal(urlOf({ http: { target: '/a/b?c=d' } }, 'https://host:1/mcp'), 'https://host:1/a/b?c=d');
  assert.equal(urlOf({ http: { target: 'http://other/x' } }, UPSTREAM), 'http://other/x');
  assert.equal(urlOf({ http: { target: '/x' } }, 'nonsense/'), 'nonsense/x');
});

test('an exchange’s command is the call to the server, and without one there is none', () => {
  assert.equal(curlOf(translated(), { upstream: UPSTREAM }).split('curl --globoff').length, 2);
  assert.throws(() => curlOf(translated().slice(0, 1), { upstream: UPSTREAM }), /nothing of it went/);
});

test('a diagram has a line for each record, and no name can add another', () => {
  for (const name of HOSTILE) {
    const lines = mermaid(translated({ name })).trimEnd().split('\n');
    assert.equal(lines.length, 4 + 7, name);
    for (const line of lines.slice(4)) {
      assert.match(line, /^  (client|ferry|server)(->>|-->>|--x)(client|ferry|server): ([A-Za-z0-9 _.\/,()=+-]|#\d+;)+$/, name);
    }
  }
  assert.equal(escapeText('#;'), '#35;#59;');
  const [asked, sent] = mermaid(translated()).split('\n').slice(4);
  assert.match(sent, /ferry->>server: .* \(call 4\)$/);
  assert.doesNotMatch(asked, /call \d/);
  assert.equal(escapeText(''), '#32;');
});

test('an archive has an entry for each call, with both legs told', () => {
  const { log } = har([...translated(), ...passed()], { upstream: UPSTREAM, version: '1.2.3' });
  assert.deepEqual([log.version, log.creator.version, log.entries.length], ['1.2', '1.2.3', 2]);
  const [first, second] = log.entries;
  assert.deepEqual([first.request.method, first.response.status, first._exchange, first._connection], ['POST', 200, 12, 'c3']);
  assert.equal(first.response.content.text, 'data: {"jsonrpc":"2.0","id":5,"result":{"content":[]}}\n\n');
  assert.deepEqual(first._clientLeg.map(record => record.kind), ['message', 'status', 'message']);
  assert.ok(first.time > 0 && first.timings.wait > 0);
  assert.match(second.comment, /^passed through/);
  assert.equal(second._clientLeg.length, 0);
});

test('an archive says of each body how much of it was kept', () => {
  const cut = { body: undefined, text: '{"é', cut: true, size: 1_048_650 };
  const comments = records => {
    const [{ request, response }] = har(records, { upstream: UPSTREAM }).log.entries;
    return [request.postData.comment, response.content.comment];
  };
  const records = translated();
  assert.deepEqual(comments(records), [undefined, undefined]);
  for (const i of [1, 4]) Object.assign(records[i], cut);
  const said = 'only the first 4 of 1048650 bytes were kept';
  assert.deepEqual(comments(records), [said, said]);
  records.splice(4, 0, { ...records[4], body: {}, cut: false });
  assert.deepEqual(comments(records), [said, `message 2: ${said}`]);
});

test('a command asks for what curl can unpack, where its client asked for anything compressed', () => {
  const asks = value => ({ seq: 1, kind: 'message', http: { method: 'GET', target: '/mcp', headers: [['Accept-Encoding', value], ['a', 'b']] } });
  for (const value of ['gzip, deflate, br', 'zstd']) {
    const command = curl(asks(value), UPSTREAM);
    assert.match(command, /\n  --compressed \\\n  --header 'a: b'/);
    assert.doesNotMatch(command, /accept-encoding/i);
  }
  assert.match(curl(asks('identity'), UPSTREAM), /--header 'Accept-Encoding: identity'/);
  assert.doesNotMatch(curl(asks('identity'), UPSTREAM), /--compressed/);
});

test('an archive and a command say of a compressed body why it is not there', () => {
  const records = passed();
  const why = 'the body is compressed (gzip): the tap does not read it';
  for (const i of [0, 2]) Object.assign(records[i], { body: undefined, why });
  const [{ request, response }] = har(records, { upstream: UPSTREAM }).log.entries;
  assert.deepEqual([request.postData.comment, response.content.comment], [why, why]);
  assert.deepEqual([request.postData.text, response.content.text], ['', '']);
  assert.match(curl(records[0], UPSTREAM), /^# The body was compressed and is not kept.\n/);
});

test('a call without an answer is in the archive too', () => {
  const [entry] = har(translated().slice(0, 2), { upstream: UPSTREAM }).log.entries;
  assert.deepEqual([entry.response.status, entry.response.comment], [0, 'no answer']);
});
