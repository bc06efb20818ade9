// A balancer before several upstreams that keeps a session where it began: by a cookie that it sets, or by the session's id,
// which it has seen in an answer. A session whose server is gone goes to another server, which does not know it.
import { Agent, createServer, request } from 'node:http';

export class Affinity {
  static async open(ports, by) {
    const balancer = new Affinity();
    Object.assign(balancer, { ports, by, next: 0, homes: new Map(), counts: ports.map(() => 0), moved: 0, strays: 0 });
    balancer.agent = new Agent({ keepAlive: true });
    balancer.server = createServer((req, res) => balancer.pass(req, res));
    await new Promise((resolve, reject) => balancer.server.once('error', reject).listen(0, '127.0.0.1', resolve));
    balancer.port = balancer.server.address().port;
    return balancer;
  }

  // Where this request's cookie or session says; otherwise turns.
  home(req) {
    const known =
      this.by === 'cookie'
        ? req.headers.cookie?.match(/(?:^|; )home=(\d+)/)?.[1]
        : this.homes.get(req.headers['mcp-session-id']);
    if (known !== undefined) return Number(known);
    if (req.headers['mcp-session-id'] !== undefined) this.strays++;
    return undefined;
  }

  async pass(req, res) {
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    const home = this.home(req);
    const first = home ?? this.next++ % this.ports.length;
    for (let tried = 0; tried < this.ports.length; tried++) {
      const at = (first + tried) % this.ports.length;
      if (await this.forward(req, Buffer.concat(chunks), res, at)) {
        this.counts[at]++;
        if (home !== undefined && at !== home) this.moved++;
        return;
      }
    }
    res.writeHead(503).end();
  }

  // Resolves with false when nobody listens there.
  forward(req, body, res, at) {
    return new Promise(resolve => {
      const { connection: _, ...headers } = req.headers;
      const to = { host: '127.0.0.1', port: this.ports[at], path: req.url, method: req.method, headers };
      const asked = request({ ...to, agent: this.agent }, answer => {
        const { connection: __, 'keep-alive': ___, 'transfer-encoding': ____, ...told } = answer.headers;
        const session = told['mcp-session-id'];
        if (this.by === 'cookie') told['set-cookie'] = [`home=${at}; Path=/; HttpOnly`];
        else if (session) this.homes.set(session, at);
        res.writeHead(answer.statusCode, told);
        res.flushHeaders();
        answer.pipe(res);
        answer.on('error', () => res.destroy());
        resolve(true);
      });
      res.on('close', () => asked.destroy());
      asked.on('error', error => (error.code === 'ECONNREFUSED' ? resolve(false) : (res.destroy(), resolve(true))));
      asked.end(body);
    });
  }

  close() {
    this.server.close();
    this.server.closeAllConnections();
  }
}
