// Which scenarios cannot apply to which pair, each with its reason. What is not listed here must pass.
// A rule is [clients, servers, scenarios, reason]; the first that matches gives the printed reason.
const any = /.*/;
const wayBack = /^(sampling|elicitation|roots|ping-client)$/;
const pushed = /^(subscribe|list-changed)$/;
const notified = /^(progress|logging)$/;
const asksForElicitation = /^(elicitation|elicit-.*|many-inputs|rounds-at-once|progress-in-rounds|.*-asks)$/;

const rules = [
  [/^(ts-1\.0|ts-1\.10|py-1\.2|py-1\.9)/, any, asksForElicitation, 'the client SDK is older than elicitation'],
  [/^py-1\.2/, any, /^(sampling|sampling-fails|.*-mid-round)$/, 'the client SDK cannot declare sampling'],
  [/^(ts-1\.0|py-1\.2)/, any, /^instructions$/, 'the client SDK does not tell its user the instructions'],
  [/^py-1\.2/, any, /^cancel$/, 'the client SDK has no cancel notification'],
  [/^py-/, any, /^reconnect$/, 'Python clients do not reconnect: the session is over when its stream is'],
  [/^(ts-1\.0|ts-1\.10|py-1\.2|py-1\.9)/, any, /^early-close$/, 'before 2025-11-25 a server may not close a stream early'],

  [/^ts-2\.4\.0(-auto|-http)?$/, any, /^missing-resource$/, 'the client SDK shows its user one code, whichever it got'],

  [/-(http|modern)$/, any, /^reconnect$/, 'the modern transport has no one stream to lose'],
  [/-http$/, /^json-lines$/, any, 'modern SDKs do not take JSON lines; the ferry passes them through unchanged'],
  [/-http$/, /stateless/, /^cancel$/, 'the cancel reaches another instance than the call'],
  [/-http$/, any, /^restart$/, 'a modern client is told 404 and starts its own new session'],

  [/-modern$/, any, /^(ping-server|logging|log-level)$/, 'the revision has no such request'],
  [/^ts-.*-modern$/, any, /^progress-in-rounds$/, 'the SDK tells its caller of the first progress twice, without a ferry too'],
  [/-modern$/, any, /^plain-results$/, 'a client of that revision gets all of it'],
  [/-modern$/, any, /^(elicit-fails|.*-mid-round)$/, 'between the rounds nobody but the SDK itself waits for the answer'],
  [/-modern$/, any, /^(leave|restart)$/, 'the SDK does not open its listen stream again, and sessions there are none'],

  [any, /-modern$/, /^ping-client$/, 'in that revision servers cannot ping'],
  [any, /-modern$/, /^early-close$/, 'in that revision replies cannot be resumed'],

  [any, /^everything$/, /^ping-client$/, 'no tool of it pings the client'],
  [any, /^everything$/, /^(cancel|leave-mid-call)$/, 'its long operation does not tell whether it was cancelled'],
  [any, /^everything$/, /^early-close$/, 'no tool of it closes its stream'],

  [any, /stateless|json-lines/, wayBack, 'without a session a reply of the client has no way back to the call'],
  [any, /stateless|json-lines/, pushed, 'without a session there is no listen stream'],
  [any, /stateless|json-lines/, /^leave$/, 'there is no session to end'],
  [any, /-json$/, notified, 'a reply that is one JSON object carries no notifications'],
  [any, /-json$/, wayBack, 'the SDK does not deliver requests tied to a call when replies are JSON'],
  [any, /^py.*stateless-json$/, /^(cancel|leave-mid-call)$/, 'the SDK does not notice that the caller of a JSON reply has gone'],
  [any, /-json$|stateless|^lite|json-lines/, /^early-close$/, 'only an SSE reply with event ids can be closed early'],

  [any, /^lite/, /^logging$/, 'mcp-lite sends no log messages'],
  [any, /^lite/, /^(roots|ping-client)$/, 'mcp-lite asks clients for sampling and elicitation only'],
  [any, /^lite/, /^completion$/, 'mcp-lite does not implement completion'],
  [any, /^lite/, /^subscribe$/, 'mcp-lite does not implement resources/subscribe'],
  [any, /^lite/, /^list-changed$/, 'mcp-lite opens its listen stream for 2025-06-18 only, which none of the clients asks for'],
  [any, /^lite/, /^(cancel|leave-mid-call)$/, 'mcp-lite ignores notifications/cancelled and callers who leave'],

  [any, /-direct$/, /^restart$/, 'the old transport does not survive its server'],
  [any, /-direct$/, /^early-close$/, 'the old transport has one stream'],
];

export function inapplicable(client, server, scenario) {
  return rules.find(([c, s, what]) => c.test(client) && s.test(server) && what.test(scenario))?.[3];
}
