// What was called, how it ended, and what the upstream executed: the ledger, kept from outside.
import { readFileSync } from 'node:fs';

// Outcomes that must not be, and what each would mean.
const BAD = {
  silent: 'a call was left without an outcome',
  wrong: "a call got another call's answer, or a damaged one",
  doubled: 'a call got a second outcome',
};

export class Ledger {
  calls = new Map(); // nonce -> { client, tool, home, outcome, executed }
  counts = {};
  opened = 0;
  notOpened = {};
  reconnected = 0;
  faults = [];
  reasons = {};

  fault(text) {
    this.faults.push(text);
    if (this.faults.length <= 20) console.log(`FAULT ${text}`);
  }

  hear(line, worker, home) {
    if (line.call) return void this.calls.set(line.call, { client: worker.client, tool: line.tool, home, worker });
    if (line.end) return this.ended(line);
    if (line.opened) this.opened++;
    else if (line.reconnected) this.reconnected++;
    else if (line.opened === false) {
      this.notOpened[line.outcome] = (this.notOpened[line.outcome] ?? 0) + 1;
      if (line.outcome === 'silent') this.fault(`${worker.client}: the opening of a connection was left without an outcome`);
    } else if (line.doubled) this.fault(`${worker.client}: ${BAD.doubled}: ${line.doubled}`);
    else if (line.surprise) this.fault(`${worker.client}: ${line.surprise}`);
  }

  ended({ end, outcome, ...more }) {
    const call = this.calls.get(end);
    if (!call) return this.fault(`an unknown call ended: ${end}`);
    if (call.outcome) return this.fault(`${call.client}: ${BAD.doubled}: ${call.outcome}, then ${outcome}`);
    Object.assign(call, { outcome, ...more });
    this.count(outcome);
    if (outcome === 'error') this.reasons[`${more.reason}/${more.executed ?? '-'}`] = (this.reasons[`${more.reason}/${more.executed ?? '-'}`] ?? 0) + 1;
    if (BAD[outcome]) this.fault(`${call.client}, ${call.tool}: ${BAD[outcome]} ${more.detail ?? ''}`);
  }

  count(outcome) {
    this.counts[outcome] = (this.counts[outcome] ?? 0) + 1;
  }

  // A client process was killed: its calls ended with its connections.
  killed(home) {
    for (const call of this.calls.values()) {
      if (call.home !== home || call.outcome) continue;
      call.outcome = 'client-killed';
      this.count('client-killed');
    }
  }

  pending = () => [...this.calls.values()].filter(call => !call.outcome);

  // Compares with the upstreams' own logs of what they began to execute.
  audit(logs) {
    const executed = new Map();
    for (const log of logs) {
      for (const nonce of readFileSync(log, 'utf8').split('\n').filter(Boolean)) executed.set(nonce, (executed.get(nonce) ?? 0) + 1);
    }
    const found = { executions: 0, twice: 0, despiteNo: 0, resultWithout: 0, unknown: 0 };
    for (const [nonce, times] of executed) {
      found.executions += times;
      if (!this.calls.has(nonce)) found.unknown++;
      if (times > 1) found.twice++;
    }
    for (const [nonce, { outcome, executed: claim }] of this.calls) {
      if (outcome === 'error' && claim === 'no' && executed.has(nonce)) {
        found.despiteNo++;
        found.who ??= {};
        const who = `${this.calls.get(nonce).client} ${this.calls.get(nonce).tool} ${this.calls.get(nonce).reason}`;
        found.who[who] = (found.who[who] ?? 0) + 1;
      }
      if (outcome === 'result' && !executed.has(nonce)) found.resultWithout++;
    }
    return found;
  }
}
