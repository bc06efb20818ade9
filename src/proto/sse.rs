//! Server-sent events, both ways: a decoder for what upstreams send, an encoder for what legacy clients accept.
//!
//! The decoder follows the HTML standard's "Parsing an event stream" (§9.2.6) in full, because real servers use its
//! whole width: CRLF, CR or LF, `data` before `id`, no `event` field, a byte order mark, comments as keep-alives. It
//! differs in one point: a block without data is reported too when it carries an `id` or a `retry`, since the 2025-11-25
//! revision opens streams with such a priming event. The encoder writes the narrow subset that every known client
//! takes: always an `event` line, one `data` line, `\n` ends, never `retry`, and an `id` only where the client is given
//! something to carry. Old Python clients take every later empty line for a message once they saw an `id`, so none is
//! written but behind `data`.
//!
//! Bounds: one event holds at most the number of bytes the decoder was made with; a larger one is skipped and
//! reported, and the stream goes on.

use bytes::{BufMut, Bytes, BytesMut};

/// A comment line with a single line end. A comment followed by an empty line would stall some clients for good.
pub const KEEP_ALIVE: Bytes = Bytes::from_static(b":\n");

/// One block of an event stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty stands for `message`.
    pub name: Box<str>,
    /// The `data` lines, joined by `\n`.
    pub data: Bytes,
    /// The `id` field of this very block, where it has one.
    pub id: Option<Box<str>>,
    /// The `retry` field, in milliseconds.
    pub retry: Option<u64>,
}

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A block with data, an id or a retry time.
    Event(Event),
    /// A block larger than the bound; the stream goes on.
    Oversized {
        /// Its content is gone, but for the beginning of its data where the decoder was made to keep that.
        beginning: Bytes,
        /// The bytes of all its data.
        size: usize,
    },
}

/// Bytes of room that a decoder keeps for its next line; what one large event needed is given back.
const KEPT: usize = 16 * 1024;

/// Bytes of a line that tell whether it is data, and where that begins: `data`, a colon and a space.
const FIELD: usize = 6;

/// What a stream may begin with (§9.2.6).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An incremental decoder: push chunks of any size, take out events.
#[derive(Debug)]
pub struct Decoder {
    /// The most bytes that one block may hold: 0 <= line.len() + data.len() <= limit.
    limit: usize,
    /// Whether the beginning of a larger one is kept.
    keeps_beginning: bool,
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    event: Event,
    after_cr: bool,
    at_start: bool,
    /// The block is over its bound.
    excess: Option<Excess>,
}

/// What is known of a block that is over its bound: how large it is.
#[derive(Debug, Default)]
struct Excess {
    /// The size of its data, up to the line that has not ended.
    data: usize,
    has_data: bool,
    /// The size of that line so far, and how it begins.
    line: usize,
    start: [u8; FIELD],
}

impl Excess {
    /// A part of a line comes.
    fn part(&mut self, part: &[u8]) {
        let unknown = self.start.iter_mut().skip(self.line);
        unknown.zip(part).for_each(|(place, byte)| *place = *byte);
        self.line += part.len();
    }

    /// The line is over.
    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let start = self.start.get(..line).unwrap_or(&self.start);
        if let (b"data", value) = field(start) {
            let before = start.len().saturating_sub(value.len());
            self.data += line.saturating_sub(before) + usize::from(self.has_data);
            self.has_data = true;
        }
    }
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one event.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            keeps_beginning: false,
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            event: Event::default(),
            after_cr: false,
            at_start: true,
            excess: None,
        }
    }

    /// The same, but of a larger event the first `limit` bytes of its data are given too.
    #[must_use]
    pub fn keeping_beginnings(limit: usize) -> Self {
        Self {
            keeps_beginning: true,
            ..Self::new(limit)
        }
    }

    /// Bytes that are held because the rest of their event has not come.
    #[must_use]
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// Reads a chunk and hands every block that it completes to `found`.
    pub fn push(&mut self, mut chunk: &[u8], mut found: impl FnMut(Decoded)) {
        if !chunk.is_empty() && std::mem::take(&mut self.after_cr) {
            // Of the line feeds behind a carriage return one belongs to it.
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', chunk) {
            let (head, tail) = chunk.split_at(end);
            if self.line.is_empty() {
                self.end_line(head, &mut found);
            } else {
                self.keep(head);
                let line = std::mem::take(&mut self.line);
                self.end_line(&line, &mut found);
                if line.capacity() <= KEPT {
                    self.line = line;
                    self.line.clear();
                }
            }
            chunk = match tail {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.keep(chunk);
    }

    /// Keeps a part of a line for later, unless the block is over its bound: then only the fact that the line is not
    /// empty is kept, for that decides where the block ends, and its size.
    fn keep(&mut self, part: &[u8]) {
        if let Some(excess) = &mut self.excess {
            excess.part(part);
        } else if self.line.len() + self.data.len() + part.len() > self.limit {
            let mut line = std::mem::take(&mut self.line);
            let room = self.limit.saturating_sub(line.len());
            let (first, rest) = part.split_at(part.len().min(room));
            line.extend_from_slice(first);
            let mark = if self.at_start { BYTE_ORDER_MARK } else { b"" };
            let line = line.strip_prefix(mark).unwrap_or(&line);
            let excess = self.exceed(line);
            excess.part(line);
            excess.part(rest);
        } else {
            return self.line.extend_from_slice(part);
        }
        if !part.is_empty() || !self.line.is_empty() {
            self.line = vec![b':'];
        }
    }

    fn end_line(&mut self, mut line: &[u8], found: &mut impl FnMut(Decoded)) {
        // With its byte order mark, as `keep` counts it: whether a line fits must not depend on how it arrived.
        let fits = self.data.len() + line.len() <= self.limit;
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            return self.end_block(found);
        }
        if !fits && self.excess.is_none() {
            self.exceed(line.get(..line.len().min(self.limit)).unwrap_or(line));
        }
        if let Some(excess) = &mut self.excess {
            // One that came in parts is known already.
            if excess.line == 0 {
                excess.part(line);
            }
            return excess.end_line();
        }
        let (field, value) = field(line);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.event.name = String::from_utf8_lossy(value).into(),
            b"id" if !value.contains(&0) => {
                self.event.id = Some(String::from_utf8_lossy(value).into())
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                self.event.retry = std::str::from_utf8(value)
                    .ok()
                    .and_then(|digits| digits.parse().ok());
            }
            _ => {}
        }
    }

    /// The block is over its bound with this line, of which no more than the bound is given. The data so far, whose
    /// place [`Self::data`] is, goes or is all that stays.
    fn exceed(&mut self, line: &[u8]) -> &mut Excess {
        let excess = Excess {
            data: self.data.len(),
            has_data: self.has_data,
            ..Excess::default()
        };
        if !self.keeps_beginning {
            self.data = Vec::new();
        } else if let (b"data", value) = field(line) {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
        }
        self.data.truncate(self.limit);
        self.excess.insert(excess)
    }

    fn end_block(&mut self, found: &mut impl FnMut(Decoded)) {
        let mut event = std::mem::take(&mut self.event);
        let has_data = std::mem::take(&mut self.has_data);
        event.data = Bytes::from(std::mem::take(&mut self.data));
        if let Some(excess) = self.excess.take() {
            found(Decoded::Oversized {
                beginning: event.data,
                size: excess.data,
            });
        } else if has_data || event.id.is_some() || event.retry.is_some() {
            found(Decoded::Event(event));
        }
    }
}

/// A line's field and value.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(at) => {
            let (field, value) = line.split_at(at);
            let value = value.get(1..).unwrap_or_default();
            (field, value.strip_prefix(b" ").unwrap_or(value))
        }
        None => (line, b""),
    }
}

/// The first event of a legacy stream: where the client shall post its messages (2024-11-05, "HTTP with SSE").
/// `uri` must hold no line break; it is built from configuration and percent-encoded parts.
#[must_use]
pub fn endpoint(uri: &str) -> Bytes {
    let mut frame = BytesMut::with_capacity(uri.len() + 24);
    frame.put_slice(b"event: endpoint\ndata: ");
    put_without_line_ends(&mut frame, uri.as_bytes());
    frame.put_slice(b"\n\n");
    frame.freeze()
}

/// One message of a legacy stream. Line breaks in `json` become spaces, so no text can end the field early.
#[must_use]
pub fn message(json: &[u8]) -> Bytes {
    message_with_id(json, None)
}

/// The same with an event id, which the client repeats when it comes back; after an empty one it repeats none.
#[must_use]
pub fn message_with_id(json: &[u8], id: Option<&str>) -> Bytes {
    let length = id.map_or(0, str::len);
    let mut frame = BytesMut::with_capacity(json.len() + length + 32);
    frame.put_slice(b"event: message\n");
    if let Some(id) = id {
        frame.put_slice(b"id: ");
        put_without_line_ends(&mut frame, id.as_bytes());
        frame.put_u8(b'\n');
    }
    frame.put_slice(b"data: ");
    put_without_line_ends(&mut frame, json);
    frame.put_slice(b"\n\n");
    frame.freeze()
}

fn put_without_line_ends(frame: &mut BytesMut, mut text: &[u8]) {
    while let Some(at) = memchr::memchr2(b'\n', b'\r', text) {
        let (head, tail) = text.split_at(at);
        frame.put_slice(head);
        frame.put_u8(b' ');
        text = tail.get(1..).unwrap_or_default();
    }
    frame.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(limit: usize, chunks: &[&[u8]]) -> Vec<Decoded> {
        let mut decoder = Decoder::new(limit);
        let mut found = Vec::new();
        for chunk in chunks {
            decoder.push(chunk, |decoded| found.push(decoded));
        }
        found
    }

    fn event(name: &str, data: &'static str, id: Option<&str>, retry: Option<u64>) -> Decoded {
        Decoded::Event(Event {
            name: name.into(),
            data: Bytes::from_static(data.as_bytes()),
            id: id.map(Into::into),
            retry,
        })
    }

    fn oversized(beginning: &'static str, size: usize) -> Decoded {
        Decoded::Oversized {
            beginning: Bytes::from(beginning),
            size,
        }
    }

    #[test]
    fn every_form_of_the_standard_is_read() {
        let text = "\u{feff}: hello\r\n\r\ndata:{\"a\":1}\r\nid: 7\r\n\r\nevent: message\rdata: x\rdata: y\r\rid: p\nretry: 3000\ndata: \n\n\
                    retry: soon\nid: a\0b\nnonsense\n\nretry: 5\n\ndata\n\ndata: lost";
        let wanted = vec![
            event("", "{\"a\":1}", Some("7"), None),
            event("message", "x\ny", None, None),
            event("", "", Some("p"), Some(3000)),
            event("", "", None, Some(5)),
            event("", "", None, None),
        ];
        assert_eq!(decode(1024, &[text.as_bytes()]), wanted);
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(decode(1024, &[head, tail]), wanted, "split at byte {at}");
            assert_eq!(
                decode(1024, &[head, b"", tail]),
                wanted,
                "split at byte {at}, with an empty chunk"
            );
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(1024, &bytes), wanted, "one byte at a time");
    }

    #[test]
    fn an_oversized_event_is_skipped_and_the_stream_goes_on() {
        let text = "data: 12345678901234567890\n\ndata: ok\n\ndata: 123456789\ndata: 123456789\ndata: 123456789\n\ndata: ok\n\n";
        let wanted = vec![
            oversized("", 20),
            event("", "ok", None, None),
            oversized("", 29),
            event("", "ok", None, None),
        ];
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            assert_eq!(decode(20, &[head, tail]), wanted, "split at byte {at}");
        }
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(decode(20, &bytes), wanted);
    }

    #[test]
    fn the_beginning_of_an_oversized_event_is_kept_where_that_is_wanted_in_any_pieces() {
        let text = "\u{feff}data: 12345678901234567890\n\ndata: 1234\nid: 5678\ndata:123456789\ndata: 1\n\ndata: ok\n\n";
        for at in 0..=text.len() {
            let (head, tail) = text.as_bytes().split_at(at);
            let mut decoder = Decoder::keeping_beginnings(17);
            let mut found = Vec::new();
            for chunk in [head, tail] {
                decoder.push(chunk, |decoded| found.push(decoded));
                assert!(decoder.held() <= 17 + 1, "split at byte {at}");
            }
            let [first, second, third] = &found[..] else {
                panic!("split at byte {at}: {found:?}");
            };
            let Decoded::Oversized { beginning, size } = first else {
                panic!("split at byte {at}: {first:?}");
            };
            // How much of it depends on the pieces; that something is there does not.
            assert!(b"12345678901234567".starts_with(beginning) && beginning.len() >= 8);
            assert_eq!(*size, 20, "split at byte {at}");
            let whole = "1234\n123456789\n1".len();
            assert_eq!(
                *second,
                oversized("1234\n123456789", whole),
                "split at byte {at}"
            );
            assert_eq!(*third, event("", "ok", None, None));
        }
    }

    #[test]
    fn of_an_oversized_event_its_data_alone_is_counted_in_any_pieces() {
        let text = "data\ndata:1\ndata:  2\n: a comment\ndatum: 9\ndatabase\nid: 7\ndata\n\ndata: 12345678901234567890\n\n: alone, a comment of many bytes\n\n";
        let wanted = vec![
            oversized("", "\n1\n 2\n".len()),
            oversized("", 20),
            oversized("", 0),
        ];
        for size in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(decode(15, &pieces), wanted, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn the_byte_order_mark_counts_in_any_pieces() {
        let text = b"\xef\xbb\xbfdata: 12345678901\n\ndata: ok\n\n";
        for (limit, first) in [
            (19, oversized("", 11)),
            (20, event("", "12345678901", None, None)),
        ] {
            let wanted = vec![first, event("", "ok", None, None)];
            for at in 0..=text.len() {
                let (head, tail) = text.split_at(at);
                assert_eq!(decode(limit, &[head, tail]), wanted, "split at byte {at}");
            }
        }
    }

    #[test]
    fn of_the_line_feeds_behind_a_carriage_return_one_belongs_to_it() {
        let wanted = vec![event("", "x", None, None), event("", "y", None, None)];
        let bytes: Vec<&[u8]> = b"data: x\r\n\ndata: y\n\r\n".chunks(1).collect();
        assert_eq!(decode(1024, &bytes), wanted);
        assert_eq!(
            decode(1024, &[b"data: x\r", b"", b"\n", b"\ndata: y\n\n"]),
            wanted
        );
    }

    #[test]
    fn frames_have_the_form_that_every_client_takes() {
        assert_eq!(
            endpoint("/messages?sessionId=1"),
            "event: endpoint\ndata: /messages?sessionId=1\n\n"
        );
        assert_eq!(message(b"{\"a\":1}"), "event: message\ndata: {\"a\":1}\n\n");
        assert_eq!(message(b"a\nb\r\nc"), "event: message\ndata: a b  c\n\n");
        assert_eq!(
            message_with_id(b"a\nb", Some("x\ny")),
            "event: message\nid: x y\ndata: a b\n\n"
        );
        assert_eq!(
            message_with_id(b"a", Some("")),
            "event: message\nid: \ndata: a\n\n"
        );
        assert_eq!(KEEP_ALIVE, ":\n");
    }
}
