// A TypeScript SDK 1.32 server that offers what the conformance suite asks of the handshake revisions:
// sessions, SSE with an event store, everything a server may ask of its client.
import { randomUUID } from 'node:crypto';
import { completable } from 'sdk-1.32/server/completable.js';
import { createMcpExpressApp } from 'sdk-1.32/server/express.js';
import { McpServer, ResourceTemplate } from 'sdk-1.32/server/mcp.js';
import { StreamableHTTPServerTransport } from 'sdk-1.32/server/streamableHttp.js';
import * as types from 'sdk-1.32/types.js';
import * as z from 'zod';
import { EventStore } from '../servers/event-store.mjs';
import { pause, progressed, registerContent, text } from './content.mjs';

const string = { type: 'string' };
const forms = {
  test_elicitation_sep1034_defaults: {
    name: { ...string, default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { ...string, enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
  test_elicitation_sep1330_enums: {
    untitledSingle: { ...string, enum: ['option1', 'option2', 'option3'] },
    titledSingle: {
      ...string,
      oneOf: ['First', 'Second', 'Third'].map((word, i) => ({ const: `value${i + 1}`, title: `${word} Option` })),
    },
    legacyEnum: { ...string, enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
    untitledMulti: { type: 'array', items: { ...string, enum: ['option1', 'option2', 'option3'] } },
    titledMulti: {
      type: 'array',
      items: { anyOf: ['First', 'Second', 'Third'].map((word, i) => ({ const: `value${i + 1}`, title: `${word} Choice` })) },
    },
  },
};

function build() {
  const mcp = new McpServer(
    { name: 'conformance-2025', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true } } },
  );
  registerContent(mcp, { z, schema: shape => shape, completable, ResourceTemplate });
  const tool = (name, inputSchema, run) => mcp.registerTool(name, { description: name, inputSchema }, run);

  tool('test_tool_with_logging', {}, async (_, extra) => {
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await extra.sendNotification({ method: 'notifications/message', params: { level: 'info', data } });
      await pause(50);
    }
    return text('logged');
  });
  tool('test_tool_with_progress', {}, (_, extra) => progressed(extra._meta?.progressToken, extra.sendNotification));
  tool('test_sampling', { prompt: z.string() }, async ({ prompt }, extra) => {
    const params = { messages: [{ role: 'user', content: { type: 'text', text: prompt } }], maxTokens: 100 };
    const reply = await extra.sendRequest({ method: 'sampling/createMessage', params }, types.CreateMessageResultSchema);
    return text(`LLM response: ${reply.content.text}`);
  });

  const elicit = async (extra, message, properties, required) => {
    const params = { message, requestedSchema: { type: 'object', properties, required } };
    const { action, content } = await extra.sendRequest({ method: 'elicitation/create', params }, types.ElicitResultSchema);
    return `action=${action}, content=${JSON.stringify(content ?? {})}`;
  };
  tool('test_elicitation', { message: z.string() }, async ({ message }, extra) => {
    const fields = { username: { ...string, description: "User's response" }, email: { ...string, description: "User's email address" } };
    return text(`User response: ${await elicit(extra, message, fields, ['username', 'email'])}`);
  });
  for (const [name, fields] of Object.entries(forms)) {
    tool(name, {}, async (_, extra) => text(`Elicitation completed: ${await elicit(extra, name, fields, [])}`));
  }
  tool('test_reconnection', {}, async (_, extra) => {
    extra.closeSSEStream?.();
    await pause(100);
    return text('Reconnection test completed successfully');
  });

  mcp.server.setRequestHandler(types.SubscribeRequestSchema, async () => ({}));
  mcp.server.setRequestHandler(types.UnsubscribeRequestSchema, async () => ({}));
  return mcp;
}

const sessions = new Map();
const app = createMcpExpressApp(); // refuses foreign Host headers
app.all('/mcp', async (req, res) => {
  let transport = sessions.get(req.headers['mcp-session-id']);
  if (!transport && req.method === 'POST' && types.isInitializeRequest(req.body)) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new EventStore(),
      retryInterval: 500,
      onsessioninitialized: id => void sessions.set(id, transport),
    });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await build().connect(transport);
  }
  if (!transport) return res.status(req.headers['mcp-session-id'] ? 404 : 400).json({ jsonrpc: '2.0', id: null, error: { code: -32001, message: 'Session not found' } });
  await transport.handleRequest(req, res, req.body);
});
const server = app.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () => console.log(`port ${server.address().port}`));
