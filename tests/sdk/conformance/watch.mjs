// A relay in front of the suite's server that passes everything on and tells when a GET was answered: some
// servers forget what they send before their client's listen stream is open, and only its way shows when it is.
import { once } from 'node:events';
import { createServer, request } from 'node:http';

// Gives the relay's URL, and a promise that resolves with the first answer to a GET.
export async function watch(upstream) {
  let opened;
  const listening = new Promise(resolve => (opened = resolve));
  const server = createServer((req, res) => {
    const { method, headers } = req;
    const onward = request(upstream, { method, headers }, answer => {
      res.writeHead(answer.statusCode, answer.headers).flushHeaders();
      answer.pipe(res);
      if (method === 'GET') opened();
    });
    onward.on('error', () => res.destroy());
    res.on('close', () => onward.destroy());
    req.pipe(onward);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/mcp`, listening };
}
