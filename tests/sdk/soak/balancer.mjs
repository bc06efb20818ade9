// The choice that a TCP balancer makes: a client stays with its ferry as long as its stream there is open, as balancers
// do that let a draining server keep its clients; otherwise it goes to one whose readiness probe says yes.
import { pause } from './random.mjs';

export class Balancer {
  constructor(ports) {
    this.backends = ports.map(port => ({ port, ready: true }));
    this.next = 0;
    void this.probe();
  }

  async probe() {
    while (!this.closed) {
      for (const backend of this.backends) {
        const answer = fetch(`http://127.0.0.1:${backend.port}/readyz`, { headers: { connection: 'close' } });
        backend.ready = await answer.then(({ ok }) => ok).catch(() => false);
      }
      await pause(200);
    }
  }

  isReady = port => this.backends.some(backend => backend.port === port && backend.ready);

  // What a client's relay is opened with, see `Relay.open`.
  forRelay = relay => {
    let mine;
    return () => {
      if (mine && (mine.ready || relay().list('stream').some(({ chosen }) => chosen === mine.port))) return mine.port;
      const ready = this.backends.filter(backend => backend.ready);
      mine = ready[this.next++ % ready.length];
      return mine?.port;
    };
  };

  close() {
    this.closed = true;
  }
}
