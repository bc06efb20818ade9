// The TypeScript SDKs of the rig behind one small face, so that `scenarios.mjs` is written once. Each entry connects a real
// client over a transport of its own SDK; nothing here touches the wire.
const roots = nonce => ({ roots: [{ uri: `file:///rig/${nonce}`, name: 'rig' }] });

// What the user of a client does with what a server asks. The first word of the question says it, and the answers name
// what was asked, so that a reply of another client's cannot pass for one's own.
class User {
  asked = [];
  held = new Promise(resolve => (this.letGo = resolve));

  async hears(question) {
    this.asked.push(question);
    if (question.startsWith('refuse ')) throw new Error('the rig refuses');
    if (question.startsWith('hold ')) await this.held;
  }

  async samples({ params }) {
    const { content } = params.messages.at(-1);
    const { text } = Array.isArray(content) ? content[0] : content;
    await this.hears(text);
    return { model: 'rig', role: 'assistant', content: { type: 'text', text: `sampled ${text}` } };
  }

  async elicits({ params: { message, requestedSchema, url } }) {
    await this.hears(message);
    if (url) return (this.asked.push(url), { action: 'accept' });
    const [action] = message.split(' ', 1);
    if (['decline', 'cancel'].includes(action)) return { action };
    const [field] = Object.keys(requestedSchema.properties);
    return { action: 'accept', content: { [field]: `answer to ${message}` } };
  }
}

const INFO = { name: 'rig-client', version: '1.0.0' };

// `bare` makes a client that can do nothing for a server and says so, `byUrl` one that can show its user a page.
const capable = (elicitation, { bare, byUrl } = {}) => {
  if (bare) return {};
  const forms = elicitation && { elicitation: byUrl ? { form: {}, url: {} } : {} };
  return { sampling: {}, roots: { listChanged: true }, ...forms };
};

async function v1(sdk, { elicitation, transport: file = 'sse' }) {
  const [{ Client }, transports, types] = await Promise.all(
    ['client/index.js', `client/${file}.js`, 'types.js'].map(module => import(`${sdk}/${module}`)),
  );
  const Transport = transports.SSEClientTransport ?? transports.StreamableHTTPClientTransport;
  return (url, nonce, can) => {
    const client = new Client(INFO, { capabilities: capable(elicitation, can) });
    const user = new User();
    if (!can?.bare) {
      client.setRequestHandler(types.CreateMessageRequestSchema, request => user.samples(request));
      client.setRequestHandler(types.ListRootsRequestSchema, async () => roots(nonce));
      if (elicitation) client.setRequestHandler(types.ElicitRequestSchema, request => user.elicits(request));
    }
    const call = (params, options) => client.callTool(params, types.CallToolResultSchema, options);
    return { client, transport: new Transport(url), call, user };
  };
}

async function v2(mode, transport = 'SSEClientTransport') {
  const { Client, [transport]: Transport } = await import('@modelcontextprotocol/client');
  return (url, nonce, can) => {
    const options = { capabilities: capable(true, can), ...(mode && { versionNegotiation: { mode } }) };
    const client = new Client(INFO, options);
    const user = new User();
    if (!can?.bare) {
      client.setRequestHandler('sampling/createMessage', request => user.samples(request));
      client.setRequestHandler('roots/list', async () => roots(nonce));
      client.setRequestHandler('elicitation/create', request => user.elicits(request));
    }
    const call = (params, callOptions) => client.callTool(params, callOptions);
    return { client, transport: new Transport(url), call, user };
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
  // The modern transport, at the ferry's /mcp.
  'ts-1.32.2-http': () => v1('sdk-1.32', { elicitation: true, transport: 'streamableHttp' }),
  'ts-2.4.0': () => v2(),
  'ts-2.4.0-auto': () => v2('auto'),
  'ts-2.4.0-http': () => v2('legacy', 'StreamableHTTPClientTransport'),
  // The revision 2026-07-28 itself, which passes through the ferry untouched.
  'ts-2.4.0-modern': () => v2({ pin: '2026-07-28' }, 'StreamableHTTPClientTransport'),
};

export async function opener(name) {
  const make = await makers[name]();
  const Face = name.endsWith('-modern') ? ModernPeer : Peer;
  return async (url, nonce, options) => {
    const { client, transport, call, user } = make(new URL(url), nonce, options);
    const peer = new Face(client, transport, call, user, nonce);
    let timer;
    const late = new Promise((_, reject) => {
      const say = () => reject(new Error('the opening timed out: request timed out'));
      if (options?.within) timer = setTimeout(say, options.within);
    });
    const opening = client.connect(transport).then(() => peer.begin?.());
    try {
      await Promise.race([opening, late]);
    } catch (error) {
      // Whoever gave up does not hear how it ended.
      opening.catch(() => {});
      // The SDKs leave an EventSource behind that goes on reconnecting, with nobody to hear it.
      await transport.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    return peer;
  };
}

class Peer {
  constructor(client, transport, call, user, nonce) {
    Object.assign(this, { client, transport, user, nonce, callTool: call, notes: [], sent: [] });
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
  instructions = () => this.client.getInstructions();
  // The version in the initialize answer as the client took it; SDKs before 1.13 do not keep it.
  version = () => this.transport._protocolVersion;
  asked = '2025-11-25';
  tools = async () => (await this.client.listTools()).tools.map(tool => tool.name);
  prompts = async () => (await this.client.listPrompts()).prompts.map(prompt => prompt.name);
  resources = async () => (await this.client.listResources()).resources.map(resource => resource.uri);
  read = async uri => (await this.client.readResource({ uri })).contents[0].text;
  subscribe = uri => this.client.subscribeResource({ uri });
  unsubscribe = uri => this.client.unsubscribeResource({ uri });
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

// In 2026-07-28 a client opens a stream for what it wants to be told.
class ModernPeer extends Peer {
  subscriptions = new Map();
  begin = async () => void (await this.client.listen({ toolsListChanged: true }));
  subscribe = async uri => void this.subscriptions.set(uri, await this.client.listen({ resourceSubscriptions: [uri] }));
  unsubscribe = uri => this.subscriptions.get(uri).close();
}
