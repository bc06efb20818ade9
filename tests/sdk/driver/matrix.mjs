// Which clients are put before which server, and which scenarios each pair runs. Whatever exists can be run with `--all`; the
// choice without it is what fits into the time of one test run: before servers of the handshake era the oldest, the newest and
// the most used client of each language, before two servers of different kinds those between them too; before servers of
// 2026-07-28 the oldest, the newest and the most used.
const always = [
  'initialize',
  'tools',
  'prompts',
  'resources',
  'call-text',
  'call-unicode',
  'call-1mb',
  'call-error',
  'progress',
  'logging',
  'sampling',
  'elicitation',
  'roots',
  'subscribe',
  'list-changed',
  'prompt',
  'completion',
  'ping-server',
  'ping-client',
  'cancel',
  'early-close',
  'crowd',
  'leave',
  'leave-mid-call',
  'reconnect',
  'restart',
];

// What only a server of 2026-07-28 does, see `clients/modern.mjs` and `rounds.mjs`.
const besides = [
  'instructions',
  'log-level',
  'unsubscribe',
  'one-call',
  'elicit-twice',
  'many-inputs',
  'rounds-at-once',
  'progress-in-rounds',
  'restart-mid-round',
  'state-only',
  'prompt-asks',
  'resource-asks',
  'elicit-by-url',
  'elicit-declined',
  'elicit-fails',
  'sampling-fails',
  'cannot-elicit',
  'cancel-mid-round',
  'leave-mid-round',
  'headers',
  'hidden-tools',
  'odd-results',
  'missing-resource',
  'plain-results',
];

// What takes seconds because it waits for somebody, or starts many; clients that do not differ in it need not all do it.
const long = ['crowd', 'restart', 'reconnect', 'restart-mid-round'];
const patient = {
  'ts2.4-modern': ['ts-1.0.4', 'ts-1.32.2', 'py-1.30.0', 'ts-1.32.2-http'],
  'py2.3-modern': ['ts-1.32.2', 'py-1.30.0', 'py-1.30.0-http'],
};

const oldClients = ['ts-1.0.4', 'ts-1.32.2', 'ts-2.4.0-auto', 'py-1.2.0', 'py-1.30.0', 'py-2.3.0-Client'];
const chosen = {
  'ts2.4-modern': [...oldClients, 'ts-1.32.2-http', 'ts-2.4.0-http', 'ts-2.4.0-modern', 'py-1.30.0-http'],
  'py2.3-modern': [...oldClients, 'ts-1.32.2-http', 'py-1.30.0-http', 'py-2.3.0-modern'],
  'ts2.4-dual-as-modern': ['ts-1.32.2', 'py-1.30.0'],
  'ts2.4-dual-stateless': ['ts-1.0.4', 'ts-2.4.0-auto', 'py-1.30.0', 'py-2.3.0-Client'],
  'ts-changing': ['ts-1.32.2', 'py-1.30.0', 'ts-1.32.2-http'],
};
// Of the clients of /mcp one is enough where everything passes unchanged.
const passing = ['ts-2.4.0-http', 'py-1.30.0-http', 'ts-2.4.0-modern', 'py-2.3.0-modern'];

// Clients that differ little from their neighbours, and the servers before which they are run all the same.
const between = ['ts-1.10.2', 'ts-2.4.0', 'py-1.9.4', 'py-2.3.0'];
const kinds = ['ts-stateful', 'py1.30-stateless-sse'];

export function isRun(client, server, all) {
  if (server.direct && client.modern) return false; // it speaks the old transport only
  if (all && !(client.speaks && !server.modernOnly)) return true;
  if (between.includes(client.name)) return kinds.includes(server.name);
  return chosen[server.name]?.includes(client.name) ?? !passing.includes(client.name);
}

export function scenariosOf(client, server, all) {
  if (server.changing) return ['upgrade'];
  const applying = [...always, ...(server.modernOnly ? besides : []), ...(server.dual ? ['stays-in-handshake'] : [])];
  const like = server.name in chosen ? !patient[server.name]?.includes(client.name) : between.includes(client.name);
  const hurried = !all && like;
  return applying.filter(scenario => !(hurried && long.includes(scenario)));
}
