// Reading an event stream from the bytes of a fetch: HTML §9.2.6, without what the tap's API never sends (retry, ids).
// Pure; knows no network.

// Makes a reader: give it text as it comes, get the events that are complete. A comment is an event without data, so that
// the caller sees that the server is alive.
export function eventReader() {
  let rest = '';
  let name = '';
  let data = [];

  function line(text, events) {
    if (text === '') {
      if (data.length > 0) events.push({ event: name || 'message', data: data.join('\n') });
      name = '';
      data = [];
      return;
    }
    const colon = text.indexOf(':');
    if (colon === 0) {
      events.push({ event: 'comment', data: '' });
      return;
    }
    const field = colon < 0 ? text : text.slice(0, colon);
    let value = colon < 0 ? '' : text.slice(colon + 1);
    if (value.startsWith(' ')) value = value.slice(1);
    if (field === 'event') name = value;
    else if (field === 'data') data.push(value);
  }

  return function read(chunk) {
    const events = [];
    rest += chunk;
    // A carriage return at the very end may be half of a line's end.
    const whole = rest.endsWith('\r') ? rest.slice(0, -1) : rest;
    const lines = whole.split(/\r\n|\n|\r/);
    const kept = lines.pop();
    rest = rest.endsWith('\r') ? `${kept}\r` : kept;
    for (const text of lines) line(text, events);
    return events;
  };
}
