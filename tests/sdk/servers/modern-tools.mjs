// The tool set of the 2026-07-28 servers in TypeScript; `py_modern_tools.py` has the same names, arguments and replies.
// First what all servers of the rig offer (see `ts-tools.mjs`), then what that revision made possible: several rounds of
// input, several inputs at once, arguments in headers, results that are no objects.
import { McpServer, ResourceTemplate, acceptedContent, completable, inputRequired, inputResponse } from '@modelcontextprotocol/server';
import * as z from 'zod';
import { big, names } from './world.mjs';

export const instructions = 'Ask before you bump. Żółć 漢字.';

const text = value => ({ content: [{ type: 'text', text: String(value) }] });
const said = value => ({ messages: [{ role: 'user', content: { type: 'text', text: value } }] });

// What is asked of the client, and how its answers read.
const Answer = z.object({ answer: z.string() });
const elicit = message => inputRequired.elicit({ message, requestedSchema: Answer });
const sample = prompt =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 10 });
const elicited = (given, key) => {
  const view = inputResponse(given, key);
  return view.kind === 'elicit' && (acceptedContent(given, key, Answer)?.answer ?? view.action);
};
const sampled = (given, key) => {
  const view = inputResponse(given, key);
  return view.kind === 'sampling' && view.result.content.text;
};
const rooted = (given, key) => {
  const view = inputResponse(given, key);
  return view.kind === 'roots' && JSON.stringify(view.roots.map(root => root.uri));
};
// A state that a relay which re-encodes text would spoil.
const stateOf = value => JSON.stringify({ value, odd: ' "\\\u2028\u00e9漢/<>&+%20 ' });

export function buildServer(world, endpoint) {
  const mcp = new McpServer(
    { name: 'rig-modern-ts', version: '1.0.0' },
    { instructions, capabilities: { logging: {}, tools: { listChanged: true }, resources: { subscribe: true, listChanged: true } } },
  );
  const tool = (name, shape, run, more) =>
    mcp.registerTool(name, { description: name, inputSchema: z.object(shape), ...more }, run);
  ordinary(mcp, tool, world, endpoint);
  asking(mcp, tool, world);
  mirrored(tool);
  return mcp;
}

function ordinary(mcp, tool, world, endpoint) {
  tool('echo', { text: z.string() }, async args => text(args.text));
  tool('add', { a: z.number(), b: z.number() }, async ({ a, b }) => text(a + b));
  tool('big', {}, async () => text(big()));
  tool('fail', { text: z.string() }, async args => ({ ...text(args.text), isError: true }));
  tool('slow', { key: z.string() }, async ({ key }, ctx) => text(await world.slow(key, ctx.mcpReq.signal)));
  tool('progress', { steps: z.number(), key: z.string() }, async ({ steps, key }, ctx) => {
    const progressToken = ctx.mcpReq._meta?.progressToken;
    const opened = world.gate(key);
    for (let progress = 1; progress <= steps && progressToken !== undefined; progress++) {
      await ctx.mcpReq.notify({ method: 'notifications/progress', params: { progressToken, progress, total: steps } });
    }
    await opened;
    return text('done');
  });
  tool('release', { key: z.string() }, async ({ key }) => text(world.release(key)));
  // The SDK sends what the request asks for by its level, and nothing where it asks for none.
  tool('log', { text: z.string() }, async (args, ctx) => {
    await ctx.mcpReq.log('debug', `quiet ${args.text}`);
    await ctx.mcpReq.log('error', args.text);
    return text('logged');
  });
  tool('bump', {}, async () => {
    world.counter++;
    endpoint.notify.resourceUpdated('mem://counter');
    endpoint.notify.toolsChanged();
    return text(world.counter);
  });
  tool('touch', { uri: z.string() }, async ({ uri }) => {
    endpoint.notify.resourceUpdated(uri);
    return text('touched');
  });
  // Neither the schema of the result nor the result is an object, which older revisions do not know.
  const Names = z.array(z.string());
  tool('list-names', {}, async () => ({ ...text(JSON.stringify(names)), structuredContent: names }), { outputSchema: Names });

  const counter = { mimeType: 'text/plain' };
  mcp.registerResource('counter', 'mem://counter', counter, async uri => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: String(world.counter) }],
  }));
  const name = completable(z.string(), typed => names.filter(known => known.startsWith(typed)));
  mcp.registerPrompt('greet', { description: 'greet', argsSchema: z.object({ name }) }, args => said(`Hello, ${args.name}!`));
}

function asking(mcp, tool, world) {
  const Text = { text: z.string() };
  const ask = (name, run) => tool(name, Text, async (args, ctx) => run(args.text, ctx.mcpReq.inputResponses, ctx.mcpReq));
  const asks = (inputRequests, state) =>
    inputRequired({ inputRequests, ...(state !== undefined && { requestState: stateOf(state) }) });
  const valueOf = state => {
    const { value } = JSON.parse(state);
    if (state !== stateOf(value)) throw new Error('the state is not the one that was given');
    return value;
  };

  ask('elicit', (message, given) => (elicited(given, 'q') ? text(elicited(given, 'q')) : asks({ q: elicit(message) })));
  ask('elicit-url', (message, given) => {
    const page = inputRequired.elicitUrl({ message, url: `https://example.com/${message}` });
    return elicited(given, 'q') ? text(elicited(given, 'q')) : asks({ q: page });
  });
  ask('sample', (message, given) => (sampled(given, 'q') ? text(sampled(given, 'q')) : asks({ q: sample(message) })));
  tool('roots', {}, async (_, ctx) => {
    const known = rooted(ctx.mcpReq.inputResponses, 'q');
    return known ? text(known) : asks({ q: inputRequired.listRoots() });
  });

  ask('elicit-twice', (message, given, request) => {
    const [one, other] = [elicited(given, 'one'), elicited(given, 'other')];
    if (other) return text(`${valueOf(request.requestState())} / ${other}`);
    if (one) return asks({ other: elicit(`second ${message}`) }, one);
    return asks({ one: elicit(`first ${message}`) }, 'begun');
  });
  ask('survey', (message, given) => {
    const answers = [elicited(given, 'form'), sampled(given, 'model'), rooted(given, 'roots')];
    if (answers.every(Boolean)) return text(answers.join(' / '));
    return asks({ form: elicit(message), model: sample(message), roots: inputRequired.listRoots() }, 'survey');
  });
  ask('working', async (message, given, request) => {
    const known = elicited(given, 'q');
    const progressToken = request._meta?.progressToken;
    await request.notify({ method: 'notifications/progress', params: { progressToken, progress: known ? 2 : 1, total: 2 } });
    if (!known) return asks({ q: elicit(message) });
    await world.gate(message);
    return text(known);
  });
  // Asks for nothing but to be called again.
  ask('later', (message, _, request) => {
    const state = request.requestState();
    if (state === undefined) return inputRequired({ requestState: stateOf(message) });
    return text(valueOf(state));
  });

  mcp.registerPrompt('asks', { description: 'asks', argsSchema: z.object(Text) }, async (args, ctx) => {
    const known = elicited(ctx.mcpReq.inputResponses, 'q');
    return known ? said(known) : asks({ q: elicit(args.text) });
  });
  const asked = new ResourceTemplate('mem://asks/{key}', { list: undefined });
  mcp.registerResource('asks', asked, { mimeType: 'text/plain' }, async (uri, { key }, ctx) => {
    const known = elicited(ctx.mcpReq.inputResponses, 'q');
    return known ? { contents: [{ uri: uri.href, mimeType: 'text/plain', text: known }] } : asks({ q: elicit(key) });
  });
}

function mirrored(tool) {
  const header = (type, name) => type.meta({ 'x-mcp-header': name });
  const place = z.object({ city: header(z.string(), 'City').optional() });
  const shape = {
    region: header(z.string(), 'Region'),
    count: header(z.int(), 'Count'),
    urgent: header(z.boolean(), 'Urgent'),
    place: place.optional(),
    // Declared as a string, and yet takes null: the header is left out then.
    nothing: header(z.any().meta({ type: 'string' }), 'Nothing').optional(),
    absent: header(z.string(), 'Absent').optional(),
  };
  tool('headers', shape, async ({ region, count, urgent, place = {}, nothing = null }) =>
    text(JSON.stringify({ region, count, urgent, place, nothing })),
  );
  // Clients must not show this one: numbers may not be mirrored, and the name is none of a header.
  tool('bad-header', { ratio: header(z.number(), 'Not A Token') }, async () => text('called'));
}
