// What the conformance suite asks a server to offer in either era: tools, resources and prompts with the
// names and texts its scenarios expect. `registerTool` and its siblings have the same shape in SDK 1.32 and
// in `@modelcontextprotocol/server` 2.4, except that the latter wants whole schemas: that is `schema`.

// A red dot of one pixel, and a WAV of no samples.
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=';

export const text = value => ({ content: [{ type: 'text', text: value }] });
export const pause = ms => new Promise(resolve => setTimeout(resolve, ms));
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const embedded = (uri, mimeType, body) => ({ type: 'resource', resource: { uri, mimeType, text: body } });
const user = content => ({ role: 'user', content });

export function registerContent(mcp, { z, schema, completable, ResourceTemplate }) {
  const tool = (name, content) => mcp.registerTool(name, { description: name }, async () => ({ content }));
  tool('test_simple_text', text('This is a simple text response for testing.').content);
  tool('test_image_content', [image]);
  tool('test_audio_content', [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }]);
  tool('test_embedded_resource', [
    embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.'),
  ]);
  tool('test_multiple_content_types', [
    { type: 'text', text: 'Multiple content types test:' },
    image,
    embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
  ]);
  mcp.registerTool('test_error_handling', { description: 'fails' }, async () => {
    throw new Error('This tool intentionally returns an error for testing');
  });

  const resource = (name, uri, mimeType, contents) =>
    mcp.registerResource(name, uri, { description: name, mimeType }, async () => ({
      contents: [{ uri, mimeType, ...contents }],
    }));
  resource('static-text', 'test://static-text', 'text/plain', { text: 'This is the content of the static text resource.' });
  resource('static-binary', 'test://static-binary', 'image/png', { blob: PNG });
  resource('watched', 'test://watched-resource', 'text/plain', { text: 'watched' });
  mcp.registerResource(
    'template',
    new ResourceTemplate('test://template/{id}/data', { list: undefined }),
    { description: 'template', mimeType: 'application/json' },
    async (uri, { id }) => {
      const body = JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` });
      return { contents: [{ uri: uri.href, mimeType: 'application/json', text: body }] };
    },
  );

  const prompt = (name, argsSchema, messages) =>
    mcp.registerPrompt(name, { description: name, ...(argsSchema && { argsSchema: schema(argsSchema) }) }, async args => ({
      messages: messages(args),
    }));
  prompt('test_simple_prompt', undefined, () => [user({ type: 'text', text: 'This is a simple prompt for testing.' })]);
  const arg1 = completable(z.string(), typed => ['paris', 'park', 'party'].filter(word => word.startsWith(typed)));
  prompt('test_prompt_with_arguments', { arg1, arg2: z.string() }, args => [
    user({ type: 'text', text: `Prompt with arguments: arg1='${args.arg1}', arg2='${args.arg2}'` }),
  ]);
  prompt('test_prompt_with_embedded_resource', { resourceUri: z.string() }, ({ resourceUri }) => [
    user(embedded(resourceUri, 'text/plain', 'Embedded resource content for testing.')),
    user({ type: 'text', text: 'Please process the embedded resource above.' }),
  ]);
  prompt('test_prompt_with_image', undefined, () => [
    user(image),
    user({ type: 'text', text: 'Please analyze the image above.' }),
  ]);
}

// Three updates with pauses, where the caller asked for progress.
export async function progressed(token, notify) {
  for (const progress of [0, 50, 100]) {
    if (progress) await pause(50);
    if (token === undefined) continue;
    await notify({ method: 'notifications/progress', params: { progressToken: token, progress, total: 100 } });
  }
  return text('progressed');
}
