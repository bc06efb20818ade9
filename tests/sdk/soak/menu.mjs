// The calls that soak and drain mix, and what each must be answered with. `worker.py` is told the same as data.
const all = [
  { tool: 'echo', weight: 30, args: {}, reply: '$' },
  { tool: 'work', weight: 20, args: { ms: [10, 1500] }, reply: '$' },
  { tool: 'work', weight: 4, args: { ms: [3000, 8000] }, reply: '$' },
  { tool: 'big', weight: 6, args: { size: [10_000, 900_000] }, reply: '$:', padded: 'size' },
  { tool: 'steps', weight: 12, args: { steps: [1, 8] }, reply: '$', progress: true },
  { tool: 'ask', weight: 8, args: { ms: [0, 500] }, reply: 'sampled $', needs: 'sampling' },
  { tool: 'elicit', weight: 6, args: {}, reply: 'answer to $', needs: 'elicitation' },
  { tool: 'work', weight: 8, args: { ms: [9000, 9000] }, reply: '$', cancel: true },
];

// In flight for seconds, as a drain meets them: some end before it does, some ask the client first, some outlast it. On a
// busy machine it takes ten seconds until the last of seven hundred has begun, and the first are to be there still.
const long = [
  { tool: 'work', weight: 40, args: { ms: [10000, 14000] }, reply: '$' },
  { tool: 'steps', weight: 20, args: { steps: [100, 140] }, reply: '$', progress: true },
  { tool: 'ask', weight: 15, args: { ms: [9000, 12000] }, reply: 'sampled $', needs: 'sampling' },
  { tool: 'work', weight: 25, args: { ms: [100_000, 100_000] }, reply: '$' },
];

const SAMPLES = ['ts-1.0.4', 'ts-1.10.2', 'ts-1.32.2', 'ts-2.4.0', 'py-1.9.4', 'py-1.30.0', 'py-2.3.0'];
const ELICITS = ['ts-1.32.2', 'ts-2.4.0', 'py-1.30.0', 'py-2.3.0'];
const can = { sampling: SAMPLES, elicitation: ELICITS };
// Python 1.2 has no word for a cancel, and cannot sample either.
const CANCELS = SAMPLES;

// What the client can do before a server that can ask back, or cannot (a stateless one).
export const menuFor = (client, asksBack, calls = all) =>
  calls.filter(
    ({ needs, cancel }) =>
      (!needs || (asksBack && can[needs].includes(client))) && (!cancel || CANCELS.includes(client)),
  );

export const longMenu = client => menuFor(client, true, long);

export function choose(random, menu) {
  const { args, ...call } = random.weighted(menu);
  return {
    ...call,
    args: Object.fromEntries(Object.entries(args).map(([name, [low, high]]) => [name, random.between(low, high)])),
  };
}

export const expected = (call, nonce) => call.reply.replace('$', nonce) + 'x'.repeat(call.args[call.padded] ?? 0);
