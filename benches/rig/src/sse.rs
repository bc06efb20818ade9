//! Reads server-sent events, strictly: one `event:` line, one `data:` line, `\n` ends, comments skipped; between the two an
//! `id:` line, as a ferry with keys writes it. Anything else is an error, because old clients fail on it.

use crate::Result;

/// One event; both parts borrow the reader.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub name: &'a [u8],
    pub data: &'a [u8],
}

/// Events out of bytes, in whatever pieces they arrive.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// Where the next line starts.
    at: usize,
    name: Option<(usize, usize)>,
    data: Option<(usize, usize)>,
}

impl Reader {
    /// Where new bytes go; what was read before is dropped first.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.name.is_none() && self.data.is_none() && self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        &mut self.bytes
    }

    /// Gives the buffer back when nothing is in it (an idle connection).
    pub fn shrink(&mut self) {
        if self.space().is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// The next whole event.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>> {
        while let Some(length) = memchr::memchr(b'\n', &self.bytes[self.at..]) {
            let (from, to) = (self.at, self.at + length);
            self.at = to + 1;
            let line = &self.bytes[from..to];
            if line.is_empty() {
                let (name, data) = (self.name.take(), self.data.take());
                if let (Some(name), Some(data)) = (name, data) {
                    return Ok(Some(Event {
                        name: &self.bytes[name.0..name.1],
                        data: &self.bytes[data.0..data.1],
                    }));
                }
                if name.is_some() || data.is_some() {
                    return Err("an event without name or data".into());
                }
            } else if line.starts_with(b"data: ") && self.data.is_none() {
                self.data = Some((from + 6, to));
            } else if line.starts_with(b"event: ") && self.name.is_none() {
                self.name = Some((from + 7, to));
            } else if line.starts_with(b"id: ") && self.name.is_some() && self.data.is_none() {
                // What it carries is for the client's next stream.
            } else if line[0] != b':' {
                return Err(format!(
                    "unexpected line in the stream: {:?}",
                    String::from_utf8_lossy(line)
                ));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let wire = b": hi\nevent: endpoint\ndata: /m?x=1\n\n:\nevent: message\nid: x\ndata: {}\n\n";
        for cut in 0..wire.len() {
            let mut reader = Reader::default();
            let mut seen = Vec::new();
            for piece in [&wire[..cut], &wire[cut..]] {
                reader.space().extend_from_slice(piece);
                while let Some(event) = reader.next_event().unwrap() {
                    seen.push((event.name.to_vec(), event.data.to_vec()));
                }
            }
            assert_eq!(
                seen,
                [
                    (b"endpoint".to_vec(), b"/m?x=1".to_vec()),
                    (b"message".to_vec(), b"{}".to_vec())
                ]
            );
        }
    }

    #[test]
    fn what_breaks_old_clients_is_an_error() {
        for wire in [
            "retry: 5\n",
            "event: message\n\n",
            "data: {}\r\n\r\n",
            "id: 1\n",
            "event: message\ndata: {}\nid: 1\n",
            "event: a\nevent: b\n",
        ] {
            let mut reader = Reader::default();
            reader.space().extend_from_slice(wire.as_bytes());
            assert!(reader.next_event().is_err(), "{wire:?}");
        }
    }
}
