// The suite's client scenarios as data: what the legacy client does in each that applies, and why the others
// cannot apply. `clients.mjs` fails when the suite knows a scenario that is in neither table, or when one of
// these names is unknown to the suite.
import assert from 'node:assert/strict';

const text = result => result.content.map(part => part.text ?? '').join('');

async function addNumbers({ client }) {
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map(tool => tool.name), ['add_numbers']);
  const result = await client.callTool({ name: 'add_numbers', arguments: { a: 5, b: 3 } });
  assert.equal(text(result), 'The sum of 5 and 3 is 8');
}

// What the user says to every form: yes to what is asked, otherwise what the form proposes.
export function filledIn(schema) {
  const fields = Object.entries(schema.properties).map(([name, field]) => [name, field.default ?? true]);
  return { action: 'accept', content: Object.fromEntries(fields) };
}

// The unrelated tool is called while the user is being asked: nothing of the open call may get into it.
async function multiRound({ client, onElicit }) {
  const asked = [];
  onElicit(async ({ message, requestedSchema }) => {
    asked.push(message);
    const result = await client.callTool({ name: 'test_mrtr_unrelated', arguments: {} });
    assert.equal(text(result), 'unrelated-ok');
    return filledIn(requestedSchema);
  });
  const outcomes = { echo_state: 'echo-state-ok', no_state: 'no-state-ok', no_result_type: 'no-result-type-test-ok' };
  await client.listTools();
  for (const [tool, outcome] of Object.entries(outcomes)) {
    assert.equal(text(await client.callTool({ name: `test_mrtr_${tool}`, arguments: {} })), outcome);
  }
  assert.equal(asked.length, 2);
}

async function standardHeaders({ client }) {
  const { tools } = await client.listTools();
  for (const { name } of tools) assert.equal(text(await client.callTool({ name, arguments: {} })), 'Headers test completed');
  const { resources } = await client.listResources();
  for (const { uri } of resources) await client.readResource({ uri });
  const { prompts } = await client.listPrompts();
  for (const { name } of prompts) await client.getPrompt({ name });
  assert.deepEqual([tools.length, resources.length, prompts.length], [2, 2, 1]);
}

// Without listing first, a proxy that has not seen the schemas must fetch them itself.
async function customHeaders({ client, context, listsFirst }) {
  if (listsFirst) await client.listTools();
  for (const call of context.toolCalls) {
    assert.equal(text(await client.callTool(call)), 'Custom headers test completed');
  }
}

// Calls all that it is offered, as a client does that knows nothing of x-mcp-header.
async function invalidTools({ client }) {
  const { tools } = await client.listTools();
  for (const { name, inputSchema } of tools) {
    const values = { string: 'a', object: {}, array: ['a'], null: null };
    const fields = Object.entries(inputSchema.properties).map(([field, { type }]) => [field, values[type]]);
    await client.callTool({ name, arguments: Object.fromEntries(fields) });
  }
  assert.deepEqual(tools.map(tool => tool.name), ['valid_tool']);
}

async function schemaPreserved({ client }) {
  const { tools } = await client.listTools();
  const { inputSchema } = tools.find(tool => tool.name === 'json_schema_2020_12_tool');
  const result = await client.callTool({ name: 'json_schema_echo', arguments: { schema: inputSchema } });
  assert.equal(text(result), 'echoed');
}

// This server asks on the listen stream, and forgets what it asks before that is open.
async function elicitationDefaults({ client, onElicit, listening }) {
  onElicit(async ({ requestedSchema }) => filledIn(requestedSchema));
  const [{ name }] = (await client.listTools()).tools;
  await listening;
  await client.callTool({ name, arguments: {} });
}

async function reconnection({ client }) {
  const { tools } = await client.listTools();
  const result = await client.callTool({ name: tools[0].name, arguments: {} });
  assert.equal(text(result), 'Reconnection test completed successfully');
}

const listsTools = async ({ client }) => void (await client.listTools());

// `successes`: so many checks must succeed, lest the scenario was about less than it is today.
// `flags`: what the ferry is told besides. `watched`: the scenario must know when the listen stream is open.
// `unobserved`: names of checks that may stay SKIPPED, because a client in front of the ferry cannot cause them.
export const applicable = {
  initialize: { run: listsTools, successes: 1 },
  tools_call: { run: addNumbers, successes: 2 },
  'elicitation-sep1034-client-defaults': { run: elicitationDefaults, successes: 5, watched: true },
  // Without the listen stream: the suite takes the first GET it sees for the reconnection, whatever it is for.
  'sse-retry': { run: reconnection, successes: 3, flags: ['--upstream-listen', 'off'] },
  'request-metadata': { run: listsTools, successes: 8 },
  'sep-2322-client-request-state': { run: multiRound, successes: 5 },
  'http-standard-headers': {
    run: standardHeaders,
    successes: 9,
    unobserved: /_(initialize|notifications_initialized)$/, // the handshake is what this revision has not
  },
  'http-custom-headers': { run: customHeaders, successes: 18 },
  'http-invalid-tool-headers': { run: invalidTools, successes: 12 },
  'json-schema-ref-no-deref': { run: listsTools, successes: 1 },
  'json-schema-2020-12-preservation': { run: schemaPreserved, successes: 8 },
};

export const inapplicable = [
  {
    reason: 'the client alone speaks to authorization servers: the ferry passes on credentials and refusals, and is no OAuth client',
    scenarios: [
      'auth/2025-03-26-oauth-endpoint-fallback',
      'auth/2025-03-26-oauth-metadata-backcompat',
      'auth/authorization-server-migration',
      'auth/basic-cimd',
      'auth/client-credentials-basic',
      'auth/client-credentials-jwt',
      'auth/dpop',
      'auth/dpop-nonce',
      'auth/enterprise-managed-authorization',
      'auth/iss-normalized',
      'auth/iss-not-advertised',
      'auth/iss-supported',
      'auth/iss-supported-missing',
      'auth/iss-unexpected',
      'auth/iss-wrong-issuer',
      'auth/metadata-default',
      'auth/metadata-issuer-mismatch',
      'auth/metadata-var1',
      'auth/metadata-var2',
      'auth/metadata-var3',
      'auth/offline-access-not-supported',
      'auth/offline-access-scope',
      'auth/pre-registration',
      'auth/resource-mismatch',
      'auth/scope-from-scopes-supported',
      'auth/scope-from-www-authenticate',
      'auth/scope-omitted-when-undefined',
      'auth/scope-retry-limit',
      'auth/scope-step-up',
      'auth/token-endpoint-auth-basic',
      'auth/token-endpoint-auth-none',
      'auth/token-endpoint-auth-post',
      'auth/wif-jwt-bearer',
    ],
  },
  {
    reason: 'they are about what a host does with the files of skills, an extension the ferry passes on unread',
    scenarios: [
      'sep-2640-client-no-prefetch',
      'sep-2640-client-verify-digest',
      'sep-2640-client-verify-frontmatter',
      'sep-2640-client-verify-size',
    ],
  },
];
