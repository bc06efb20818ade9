// All that real clients do in the matrix of the SDK rig, through three ferries behind nginx instead of one.
import { fileURLToPath } from 'node:url';
import { Program } from '../driver/processes.mjs';
import { check } from '../soak/report.mjs';

const at = path => fileURLToPath(new URL(path, import.meta.url));
// Every client with the server that asks back and has sessions; the whole matrix is some minutes (see as-one.mjs).
const ONLY = '*×ts-stateful×*';

export async function scenarios() {
  const ferry = process.env.MCP_FERRY_BIN ?? at('../../../target/release/mcp-ferry');
  const env = { MCP_FERRY_BIN: at('as-one.mjs'), FERRY_OF_REPLICAS: ferry };
  const failed = [];
  const onLine = line => line.startsWith('FAIL') && failed.push(line);
  const matrix = new Program('matrix', ['node', at('../driver/main.mjs'), '--only', ONLY], { env, onLine });
  const how = await matrix.exit;
  for (const line of failed) console.log(`   ${line}`);
  const [, passed] = matrix.tail(1).match(/^(\d+) passed, 0 failed$/) ?? [];
  check(`the matrix ${ONLY} holds over three replicas`, how === 0 && Number(passed) > 100, matrix.tail(1));
}
