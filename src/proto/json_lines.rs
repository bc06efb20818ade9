//! JSON lines: one JSON text a line, as serverless upstreams answer (`application/json-lines` and its sisters).
//!
//! Bounds: a line holds at most the number of bytes the decoder was made with; a longer one is skipped and reported,
//! and the lines after it are read.

use bytes::Bytes;

/// What the decoder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A line that is not blank.
    Line(Bytes),
    /// A line longer than the bound.
    Oversized,
}

/// An incremental decoder: push chunks of any size, take out lines.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    line: Vec<u8>,
    oversized: bool,
}

impl Decoder {
    /// A decoder that holds at most `limit` bytes of one line.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            oversized: false,
        }
    }

    /// Bytes that are held because the rest of their line has not come.
    #[must_use]
    pub fn held(&self) -> usize {
        self.line.len()
    }

    /// Reads a chunk and hands every line that it completes to `found`.
    pub fn push(&mut self, mut chunk: &[u8], mut found: impl FnMut(Decoded)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (head, tail) = chunk.split_at(end);
            self.keep(head);
            self.end_line(&mut found);
            chunk = tail.get(1..).unwrap_or_default();
        }
        self.keep(chunk);
    }

    /// The body ended whole: its last line needs no line end.
    pub fn finish(&mut self, mut found: impl FnMut(Decoded)) {
        self.end_line(&mut found);
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + part.len() > self.limit {
            self.oversized = true;
            self.line = Vec::new();
        }
        if !self.oversized {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, found: &mut impl FnMut(Decoded)) {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.oversized) {
            found(Decoded::Oversized);
        } else if !line.trim_ascii().is_empty() {
            found(Decoded::Line(Bytes::from(line)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_whatever_the_chunks() {
        let text = b"{\"a\":1}\r\n\n  \n{\"b\":2}\n0123456789012345\n{\"c\":3}";
        let line = |text: &'static str| Decoded::Line(Bytes::from_static(text.as_bytes()));
        let wanted = vec![
            line("{\"a\":1}\r"),
            line("{\"b\":2}"),
            Decoded::Oversized,
            line("{\"c\":3}"),
        ];
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            let mut decoder = Decoder::new(12);
            let mut found = Vec::new();
            decoder.push(head, |decoded| found.push(decoded));
            decoder.push(tail, |decoded| found.push(decoded));
            decoder.finish(|decoded| found.push(decoded));
            assert_eq!(found, wanted, "split at byte {at}");
        }
    }
}
