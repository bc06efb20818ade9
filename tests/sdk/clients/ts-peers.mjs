// The TypeScript SDKs of the rig behind one small face, so that `scenarios.mjs` is written once. Each
// entry connects a real client over its own legacy SSE transport; nothing here touches the wire.
const roots = nonce => ({ roots: [{ uri: `file:///rig/${nonce}`, name: 'rig' }] });

// Answers that name what was asked, so that a reply of another client's cannot pass for one's own.
function sampled({ params }) {
  const { content } = params.messages.at(-1);
  const { text } = Array.isArray(content) ? content[0] : content;
  return { model: 'rig', role: 'assistant', content: { type: 'text', text: `sampled ${text}` } };
}

function elicited({ params }) {
  const [field] = Object.keys(params.requestedSchema.properties);
  return { action: 'accept', content: { [field]: `answer to ${params.message}` } };
}

const INFO = { name: 'rig-client', version: '1.0.0' };

async function v1(sdk, { elicitation, transport: file = 'sse' }) {
  const [{ Client }, transports, types] = await Promise.all(
    ['client/index.js', `client/${file}.js`, 'types.js'].map(module => import(`${sdk}/${module}`)),
  );
  const Transport = transports.SSEClientTransport ?? transports.StreamableHTTPClientTransport;
  return (url, nonce) => {
    const capabilities = { sampling: {}, roots: { listChanged: true }, ...(elicitation && { elicitation: {} }) };
    const client = new Client(INFO, { capabilities });
    client.setRequestHandler(types.CreateMessageRequestSchema, async request => sampled(request));
    client.setRequestHandler(types.ListRootsRequestSchema, async () => roots(nonce));
    if (elicitation) client.setRequestHandler(types.ElicitRequestSchema, async request => elicited(request));
    const call = (params, options) => client.callTool(params, types.CallToolResultSchema, options);
    return { client, transport: new Transport(url), call };
  };
}

async function v2(options) {
  const { Client, SSEClientTransport } = await import('@modelcontextprotocol/client');
  return (url, nonce) => {
    const capabilities = { sampling: {}, roots: { listChanged: true }, elicitation: {} };
    const client = new Client(INFO, { capabilities, ...options });
    client.setRequestHandler('sampling/createMessage', async request => sampled(request));
    client.setRequestHandler('roots/list', async () => roots(nonce));
    client.setRequestHandler('elicitation/create', async request => elicited(request));
    const call = (params, callOptions) => client.callTool(params, callOptions);
    return { client, transport: new SSEClientTransport(url), call };
  };
}

const makers = {
  'ts-1.0.4': async () => {
    // SDKs before 1.4 expect the platform to bring EventSource; Node has none.
    globalThis.EventSource = (await import('eventsource-2')).default;
    return v1('sdk-1.0', { elicitation: false });
  },
  'ts-1.10.2': () => v1('sdk-1.10', { elicitation: false }),
  'ts-1.32.2': () => v1('sdk-1.32', { elicitation: true }),
  // The modern transport, at the ferry's /mcp: what passes through must behave the same.
  'ts-1.32.2-http': () => v1('sdk-1.32', { elicitation: true, transport: 'streamableHttp' }),
  'ts-2.4.0': () => v2({}),
  'ts-2.4.0-auto': () => v2({ versionNegotiation: { mode: 'auto' } }),
};

export async function opener(name) {
  const make = await makers[name]();
  return async (url, nonce) => {
    const { client, transport, call } = make(new URL(url), nonce);
    const peer = new Peer(client, transport, call, nonce);
    try {
      await client.connect(transport);
    } catch (error) {
      // The SDKs leave an EventSource behind that goes on reconnecting, with nobody to hear it.
      await transport.close();
      throw error;
    }
    return peer;
  };
}

class Peer {
  constructor(client, transport, call, nonce) {
    Object.assign(this, { client, transport, nonce, callTool: call, notes: [], sent: [] });
    client.fallbackNotificationHandler = async note => void this.notes.push(note);
    client.onerror = error => void (this.lastError = error);
    const send = transport.send.bind(transport);
    transport.send = (message, ...rest) => (this.sent.push(message.method), send(message, ...rest));
  }

  async call(tool, args, options) {
    const result = await this.callTool({ name: tool, arguments: args }, options);
    return { text: result.content.map(part => part.text ?? '').join(''), failed: result.isError === true };
  }

  serverInfo = () => this.client.getServerVersion();
  capabilities = () => this.client.getServerCapabilities();
  // The version in the initialize answer as the client took it; SDKs before 1.13 do not keep it.
  version = () => this.transport._protocolVersion;
  asked = '2025-11-25';
  tools = async () => (await this.client.listTools()).tools.map(tool => tool.name);
  prompts = async () => (await this.client.listPrompts()).prompts.map(prompt => prompt.name);
  resources = async () => (await this.client.listResources()).resources.map(resource => resource.uri);
  read = async uri => (await this.client.readResource({ uri })).contents[0].text;
  subscribe = uri => this.client.subscribeResource({ uri });
  ping = () => this.client.ping();
  setLevel = level => this.client.setLoggingLevel(level);

  async prompt(name, args) {
    return (await this.client.getPrompt({ name, arguments: args })).messages[0].content.text;
  }

  async complete(prompt, argument, value) {
    const params = { ref: { type: 'ref/prompt', name: prompt }, argument: { name: argument, value } };
    return (await this.client.complete(params)).completion.values;
  }

  // Where the client posts: it changes when the client has taken up a new stream.
  endpoint = () => this.transport._endpoint?.href;
  async close() {
    await this.transport.terminateSession?.();
    await this.client.close();
  }
}
