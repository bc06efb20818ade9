// Keeps the events of one session, so that a stream closed early or lost can be resumed.
export class EventStore {
  events = []; // in order: {id, stream, message}

  async storeEvent(stream, message) {
    const id = `${stream}_${this.events.length}`;
    this.events.push({ id, stream, message });
    return id;
  }

  async getStreamIdForEventId(id) {
    return this.events.find(event => event.id === id)?.stream;
  }

  async replayEventsAfter(lastId, { send }) {
    const from = this.events.findIndex(event => event.id === lastId);
    if (from < 0) throw new Error(`unknown event ${lastId}`);
    const { stream } = this.events[from];
    for (const event of this.events.slice(from + 1)) {
      // The priming event is stored as an empty message; only real ones are sent again.
      if (event.stream === stream && Object.keys(event.message).length) await send(event.id, event.message);
    }
    return stream;
  }
}
