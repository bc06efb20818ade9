// One server of the matrix with its ferry, its cuttable relay and the small control endpoint through
// which a client process asks for what only the outside can do: `state` (what the server knows), `cut`
// (the client's TCP connections), `wire` (what went to the client over them), `restart` (kill the server
// and start it on the same port), `become/NAME` (and start another one there).
import { createServer } from 'node:http';
import { inapplicable } from './applicable.mjs';
import { cuttable } from './cut.mjs';
import { servers } from './peers.mjs';
import { Program, freePort } from './processes.mjs';

export class Lane {
  constructor(name, server, { root, ferry, direct }) {
    Object.assign(this, { name, server, root, ferryBin: ferry, direct: direct || server.direct });
    this.sessions = new Set(); // of a foreign server, read off its log
  }

  async start() {
    await this.startServer(await freePort());
    if (this.direct) {
      this.frontPort = this.port;
    } else {
      const upstream = `http://127.0.0.1:${this.port}/mcp`;
      const command = [this.ferryBin, '--upstream', upstream, '--listen', '127.0.0.1:0', ...(this.server.flags ?? [])];
      this.ferry = new Program(`ferry before ${this.name}`, command);
      const [, port] = await this.ferry.line(/listening on http:\/\/127\.0\.0\.1:(\d+)/);
      this.frontPort = Number(port);
    }
    this.relay = await cuttable(this.frontPort);
    this.endpoint = createServer((req, res) => {
      this.answer(req.url.slice(1)).then(
        body => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body)),
        error => res.writeHead(500).end(`${error.message}`),
      );
    });
    await new Promise((resolve, reject) => this.endpoint.once('error', reject).listen(0, '127.0.0.1', resolve));
  }

  async startServer(port, { command, foreign } = this.server) {
    this.sessions.clear();
    this.upstream = new Program(`server ${this.name}`, command, {
      cwd: this.root,
      env: { PORT: String(port) },
      onLine: line => {
        const begun = line.match(/^Session initialized with ID: (\S+)/);
        const ended = line.match(/^Transport closed for session (\S+?),/);
        if (begun) this.sessions.add(begun[1]);
        if (ended) this.sessions.delete(ended[1]);
      },
    });
    const [, told] = await this.upstream.line(foreign ? /listening on port (\d+)/ : /^port (\d+)$/);
    this.port = Number(told);
  }

  async answer(asked) {
    const [verb, name] = asked.split('/');
    switch (verb) {
      case 'state': {
        if (this.server.foreign) return { sessions: [...this.sessions] };
        const reply = await fetch(`http://127.0.0.1:${this.port}/control`);
        if (!reply.ok) throw new Error(`the server's side channel answered ${reply.status}`);
        return reply.json();
      }
      case 'cut':
        return { cut: this.relay.cut() };
      case 'wire':
        return { wire: this.relay.read() };
      case 'restart':
        await this.upstream.end('SIGKILL');
        await this.startServer(this.port);
        return {};
      case 'become':
        await this.upstream.end('SIGKILL');
        await this.startServer(this.port, servers[name]);
        return {};
      default:
        throw new Error(`unknown verb ${verb}`);
    }
  }

  plan(client, scenarios) {
    const at = port => `http://127.0.0.1:${port}`;
    const path = client.modern ? '/mcp' : '/sse';
    return {
      client: client.name,
      scenarios,
      url: `${at(this.frontPort)}${path}`,
      cuttable: `${at(this.relay.port)}${path}`,
      control: at(this.endpoint.address().port),
      dialect: this.server.dialect,
      pushes: !inapplicable(client.name, this.name, 'list-changed'),
      // The question that its SDK can be held at.
      asks: inapplicable(client.name, this.name, 'elicitation') ? 'sample' : 'elicit',
      speaks: client.speaks,
      asksItself: this.direct || (client.modern && !(this.server.modernOnly && !client.speaks)) || false,
    };
  }

  // Returns how the ferry took its SIGTERM; undefined where there is none.
  async stop() {
    const how = await this.ferry?.end('SIGTERM', 15);
    await this.upstream?.end('SIGKILL');
    this.relay?.close();
    this.endpoint?.closeAllConnections();
    this.endpoint?.close();
    return how;
  }
}
