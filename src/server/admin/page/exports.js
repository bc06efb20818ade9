// The export menus: fetches the records and offers them as a file or on the clipboard.
import { copy, download, h } from './dom.js';
import { curl } from './curl.js';
import { har } from './har.js';
import { isFiltering } from './filter.js';
import { mermaid } from './mermaid.js';

// `lines()` gives [{ line, record }]; `about()` the upstream and version; `name` begins the file's name; `one` when it is one
// exchange, which alone has a curl command.
export function menu({ lines, about, name, one, say }) {
  const box = h('details', { class: 'menu' }, h('summary', { title: 'Save or copy what is shown' }, 'export'));
  const list = h('div', { class: 'choices', role: 'group', 'aria-label': 'Export' });
  const choice = (text, tip, act) => {
    const item = h('button', { type: 'button', title: tip }, text);
    item.addEventListener('click', async () => {
      try {
        const found = await lines();
        if (found.length === 0) return say('None of its records are stored any more.');
        await act(found, item);
        // What was copied says so in its place; the menu stays for that.
        if (!text.startsWith('copy')) box.open = false;
      } catch (error) {
        say(`Not exported: ${error.message}`);
      }
    });
    list.append(item);
  };
  const records = found => found.map(({ record }) => record);
  choice('JSONL', 'The records as they are, one a line; what --tap-file writes and mcp-ferry replay reads', found =>
    download(`${name()}.jsonl`, 'application/jsonl', `${found.map(({ line }) => line).join('\n')}\n`));
  choice('HAR', 'HTTP Archive 1.2: an entry for every call to the server', found =>
    download(`${name()}.har`, 'application/json', `${JSON.stringify(har(records(found), about()), null, 2)}\n`));
  choice('Mermaid', 'A sequence diagram for documents', found => download(`${name()}.mmd`, 'text/plain', mermaid(records(found))));
  choice('copy Mermaid', 'The sequence diagram, on the clipboard', (found, item) => copy(mermaid(records(found)), item));
  if (one) choice('copy curl', 'The call to the server as a curl command', (found, item) => copy(curlOf(records(found), about()), item));
  box.append(list);
  box.addEventListener('focusout', ({ relatedTarget }) => {
    if (relatedTarget && !box.contains(relatedTarget)) box.open = false;
  });
  return box;
}

// The commands of an exchange's calls; nearly always one.
export function curlOf(records, { upstream }) {
  const calls = records.filter(record => record.http && record.to === 'server');
  if (calls.length === 0) throw new Error('nothing of it went to the server by a request of its own');
  return calls.map(record => curl(record, upstream)).join('\n\n');
}

// The records of all that is shown: those of the exchanges in the list, and, where no filter chooses among exchanges, all else.
export async function shownLines(api, filter, rows) {
  const connection = filter.connection || undefined;
  const all = await api.records({ connection });
  if (!isFiltering({ ...filter, connection: '' })) return all;
  const wanted = new Set(rows.map(row => row.exchange));
  return all.filter(({ record }) => wanted.has(record.exchange));
}
