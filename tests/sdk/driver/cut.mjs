// A TCP relay between a client and the ferry whose connections can be cut all at once, as a router, a
// sleeping laptop or an idle timeout does it, and that remembers what it last carried to the client.
import { connect, createServer } from 'node:net';

const KEPT = 1 << 20; // bytes that the ferry last sent

export async function cuttable(port) {
  let wire = '';
  let target = port;
  const live = new Set();
  const server = createServer(near => {
    const far = connect(target, '127.0.0.1');
    const pair = { near, far };
    live.add(pair);
    for (const socket of [near, far]) {
      socket.on('error', () => {});
      socket.on('close', () => (near.destroy(), far.destroy(), live.delete(pair)));
    }
    far.on('data', chunk => (wire = (wire + chunk.toString('latin1')).slice(-KEPT)));
    near.pipe(far).pipe(near);
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve));
  const cut = () => {
    const count = live.size;
    for (const { near, far } of live) {
      near.resetAndDestroy();
      far.destroy();
    }
    return count;
  };
  // What came since the last time this was asked.
  const read = () => {
    const text = Buffer.from(wire, 'latin1').toString();
    wire = '';
    return text;
  };
  // Whoever connects from now on reaches another one.
  const turn = port => void (target = port);
  return { port: server.address().port, cut, read, turn, close: () => (cut(), server.close()) };
}
