// The conformance suite imports `globSync` from `fs`, which Node 20 (Debian's) does not have yet, although
// its server mode never calls it. Loaded with `--import`, this gives the suite's own modules an `fs` with
// that one name added, so that it starts; on later Nodes it does nothing.
import fs from 'node:fs';
import { register } from 'node:module';

const hooks = `
  const FS = 'export * from "node:fs"; export { default } from "node:fs";'
    + 'export const globSync = () => { throw new Error("globSync needs Node 22") };';
  export const resolve = (name, context, next) =>
    name === 'fs' && context.parentURL?.includes('/conformance')
      ? { url: 'data:text/javascript,' + encodeURIComponent(FS), shortCircuit: true }
      : next(name, context);
`;
if (!fs.globSync) register(`data:text/javascript,${encodeURIComponent(hooks)}`);
