// A server of revision 2026-07-28 only, made of `@modelcontextprotocol/server` 2.4: no handshake, no session,
// what it needs of its client comes as `input_required` results.
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { localhostHostValidation, localhostOriginValidation, toNodeHandler } from '@modelcontextprotocol/node';
import {
  McpServer,
  ResourceTemplate,
  acceptedContent,
  completable,
  createMcpHandler,
  createRequestStateCodec,
  inputRequired,
  inputResponse,
} from '@modelcontextprotocol/server';
import * as z from 'zod';
import { listen } from '../servers/world.mjs';
import { progressed, registerContent, text } from './content.mjs';

const codec = createRequestStateCodec({ key: randomBytes(32) });
const CLIENT = 'io.modelcontextprotocol/clientCapabilities';

const field = (name, type = z.string()) => z.object({ [name]: type });
const elicit = (message, requestedSchema) => inputRequired.elicit({ message, requestedSchema });
const ask = (content, maxTokens) =>
  inputRequired.createMessage({ messages: [{ role: 'user', content: { type: 'text', text: content } }], maxTokens });

const asksName = elicit('What is your name?', field('name'));
const asksCapital = ask('What is the capital of France?', 100);

function registerRounds(mcp) {
  const tool = (name, run) => mcp.registerTool(name, { description: name }, ctx => run(ctx, ctx.mcpReq.inputResponses));

  tool('test_input_required_result_elicitation', async (_, given) => {
    const known = acceptedContent(given, 'user_name', field('name'));
    return known ? text(`Hello, ${known.name}!`) : inputRequired({ inputRequests: { user_name: asksName } });
  });
  tool('test_input_required_result_sampling', async (_, given) => {
    const reply = inputResponse(given, 'capital_question');
    return reply.kind === 'sampling' ? text(JSON.stringify(reply)) : inputRequired({ inputRequests: { capital_question: asksCapital } });
  });
  tool('test_input_required_result_list_roots', async (_, given) => {
    const known = given?.client_roots?.roots;
    if (!known) return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } });
    return text(known.map(root => root.uri).join(' '));
  });
  for (const name of ['test_input_required_result_request_state', 'test_input_required_result_tampered_state']) {
    tool(name, async (ctx, given) => {
      const state = ctx.mcpReq.requestState();
      if (state?.round === 1 && acceptedContent(given, 'confirm', field('ok', z.boolean()))) return text('state-ok');
      const confirm = elicit('Please confirm', field('ok', z.boolean()));
      return inputRequired({ inputRequests: { confirm }, requestState: await codec.mint({ round: 1 }) });
    });
  }
  tool('test_input_required_result_multiple_inputs', async (_, given) => {
    if (given?.user_name && given.greeting && given.client_roots) return text('all three given');
    const inputRequests = { user_name: asksName, greeting: ask('Generate a greeting', 50), client_roots: inputRequired.listRoots() };
    return inputRequired({ inputRequests, requestState: await codec.mint({ round: 1 }) });
  });
  tool('test_input_required_result_multi_round', async (ctx, given) => {
    const round = ctx.mcpReq.requestState()?.round ?? 0;
    if (round === 2 && given?.step2) return text('two rounds done');
    const step2 = elicit('Step 2: What is your favorite color?', field('color'));
    const step1 = elicit('Step 1: What is your name?', field('name'));
    if (round === 1 && given?.step1) return inputRequired({ inputRequests: { step2 }, requestState: await codec.mint({ round: 2 }) });
    return inputRequired({ inputRequests: { step1 }, requestState: await codec.mint({ round: 1 }) });
  });
  tool('test_input_required_result_capabilities', async ctx => {
    const can = ctx.mcpReq.envelope?.[CLIENT] ?? {};
    const inputRequests = { ...(can.sampling && { sample: asksCapital }), ...(can.elicitation && { user_name: asksName }) };
    return inputRequired({ inputRequests, requestState: await codec.mint({ round: 1 }) });
  });
  tool('test_missing_capability', async () => inputRequired({ inputRequests: { sample: asksCapital } }));
  mcp.registerPrompt('test_input_required_result_prompt', { description: 'asks first' }, async ctx => {
    const known = acceptedContent(ctx.mcpReq.inputResponses, 'user_context', field('context'));
    if (known) return { messages: [{ role: 'user', content: { type: 'text', text: known.context } }] };
    return inputRequired({ inputRequests: { user_context: elicit('What context should the prompt use?', field('context')) } });
  });
}

function build() {
  const mcp = new McpServer(
    { name: 'conformance-2026', version: '1.0.0' },
    {
      capabilities: { logging: {}, tools: { listChanged: true }, prompts: { listChanged: true }, resources: { subscribe: true, listChanged: true } },
      requestState: { verify: codec.verify },
    },
  );
  registerContent(mcp, { z, schema: shape => z.object(shape), completable, ResourceTemplate });
  registerRounds(mcp);
  mcp.registerTool('test_tool_with_progress', { description: 'progress' }, ctx =>
    progressed(ctx.mcpReq._meta?.progressToken, ctx.mcpReq.notify),
  );
  mcp.registerTool('test_logging_tool', { description: 'logs' }, async ctx => {
    await ctx.mcpReq.log('info', 'logged where the request asks for it');
    return text('logged');
  });
  mcp.registerTool('test_streaming_elicitation', { description: 'streams, then asks' }, async ctx => {
    await progressed(ctx.mcpReq._meta?.progressToken, ctx.mcpReq.notify);
    return inputRequired({ inputRequests: { user_name: asksName } });
  });
  const region = z.string().meta({ 'x-mcp-header': 'Region' });
  mcp.registerTool('test_header', { description: 'argument in a header', inputSchema: z.object({ region }) }, async args =>
    text(args.region),
  );
  // Every request is served by a server of its own, so a change of the lists is only told, to who listens.
  mcp.registerTool('test_trigger_tool_change', { description: 'tools changed' }, async () => {
    endpoint.notify.toolsChanged();
    return text('told');
  });
  mcp.registerTool('test_trigger_prompt_change', { description: 'prompts changed' }, async () => {
    endpoint.notify.promptsChanged();
    return text('told');
  });
  return mcp;
}

const endpoint = createMcpHandler(build, { legacy: 'reject' });
const handler = toNodeHandler(endpoint);
const guards = [localhostHostValidation(), localhostOriginValidation()];
listen(
  createServer((req, res) => {
    if (guards.every(guard => guard(req, res))) handler(req, res);
  }),
);
