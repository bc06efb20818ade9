// A TCP relay between a client and the ferry whose connections can be cut all at once, as a router, a
// sleeping laptop or an idle timeout does it.
import { connect, createServer } from 'node:net';

export async function cuttable(port) {
  const live = new Set();
  const server = createServer(near => {
    const far = connect(port, '127.0.0.1');
    const pair = { near, far };
    live.add(pair);
    for (const socket of [near, far]) {
      socket.on('error', () => {});
      socket.on('close', () => (near.destroy(), far.destroy(), live.delete(pair)));
    }
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
  return { port: server.address().port, cut, close: () => (cut(), server.close()) };
}
