//! The bodies of requests that pass, put together of their pieces: a text, an event stream, or JSON lines. Of one that is
//! compressed in a way that `packed` does not know the bytes are only counted.
//!
//! Bounds: of a text, a line or an event, the bytes that the tap keeps of a message.

use hyper::header::{self, HeaderMap};

use super::packed::{Packed, Places};
use crate::proto::sse;
use crate::tap::Text;
use crate::tap::summary::short;

/// Media types of JSON lines: there is no registered one.
const JSON_LINES: [&str; 4] = [
    "application/json-lines",
    "application/jsonl",
    "application/x-ndjson",
    "application/x-jsonlines",
];

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) enum Answer {
    /// Not even its head.
    #[default]
    Nothing,
    /// The event that is not whole yet.
    Events(Box<sse::Decoder>),
    /// The line that is not whole yet.
    Lines(Collected),
    /// All of it, one message.
    Whole(Collected),
    /// Any of these, compressed.
    Packed(Box<Packed>),
    /// Bytes that are not read.
    Coded(Coded),
}

/// A body that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    /// How it is compressed.
    pub(super) coding: String,
    /// It is an event stream, which its reader may leave when it has what it wants.
    pub(super) is_stream: bool,
}

/// The beginning of a text, and the size of what has come.
#[derive(Debug, Default)]
pub(super) struct Collected {
    bytes: Vec<u8>,
    size: usize,
}

impl Answer {
    /// The answer with these headers, of which nothing has come. Where it has to be unpacked it takes one of the places.
    pub(super) fn begin(headers: &HeaderMap, max_body: usize, places: &Places) -> Self {
        let media = headers.get(header::CONTENT_TYPE);
        let media = media.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        let is_stream = media == "text/event-stream";
        let plain = match media.as_str() {
            _ if is_stream => Self::events(max_body),
            media if JSON_LINES.contains(&media) => Self::Lines(Collected::default()),
            _ => Self::Whole(Collected::default()),
        };
        let Some(coding) = coding(headers) else {
            return plain;
        };
        let coded = Coded { coding, is_stream };
        match Packed::begin(coded.clone(), plain, max_body, places) {
            Some(packed) => Self::Packed(Box::new(packed)),
            None => Self::Coded(coded),
        }
    }

    fn events(max_body: usize) -> Self {
        Self::Events(Box::new(sse::Decoder::keeping_beginnings(max_body)))
    }

    /// A piece comes. Gives the messages that end in it.
    pub(super) fn push(&mut self, piece: &[u8], max_body: usize) -> Vec<Text> {
        let mut found = Vec::new();
        match self {
            Self::Nothing | Self::Coded(_) => {}
            Self::Packed(packed) => {
                let (texts, failed) = packed.push(piece);
                found = texts;
                if let Some(coded) = failed {
                    *self = Self::Coded(coded);
                }
            }
            Self::Whole(collected) => collected.push(piece, max_body),
            Self::Lines(line) => {
                let mut rest = piece;
                while let Some(end) = memchr::memchr(b'\n', rest) {
                    let (head, tail) = rest.split_at(end);
                    line.push(head, max_body);
                    found.extend(line.line());
                    rest = tail.get(1..).unwrap_or_default();
                }
                line.push(rest, max_body);
            }
            Self::Events(decoder) => decoder.push(piece, |decoded| {
                let (head, size) = match decoded {
                    sse::Decoded::Event(event) => (event.data.clone(), event.data.len()),
                    sse::Decoded::Oversized { beginning, size } => (beginning, size),
                };
                found.extend((size > 0).then_some(Text {
                    head,
                    size,
                    told: None,
                }));
            }),
        }
        found
    }

    /// The answer is over; `gap` says that pieces of it were left out. Gives the message that ends with it.
    pub(super) fn finish(&mut self, gap: bool) -> Option<Text> {
        match self {
            Self::Whole(collected) => {
                let text = collected.text();
                let unknown = gap && text.head.is_empty();
                (text.size > 0 && !unknown).then_some(text)
            }
            // The last line needs no line end.
            Self::Lines(line) => line.line(),
            // Of a gap it would be another thing by now.
            Self::Packed(packed) => match packed.finish() {
                Ok(text) => text,
                Err(coded) => {
                    *self = Self::Coded(coded);
                    None
                }
            },
            _ => None,
        }
    }

    /// Pieces are left out.
    pub(super) fn skip(&mut self, max_body: usize) {
        match self {
            Self::Nothing | Self::Coded(_) => {}
            // What follows cannot be unpacked without it.
            Self::Packed(packed) => *self = Self::Coded(packed.coded()),
            Self::Lines(collected) | Self::Whole(collected) => collected.skip(),
            // What is left of an event that was cut is no message.
            Self::Events(_) => *self = Self::events(max_body),
        }
    }
}

impl Collected {
    pub(super) fn push(&mut self, piece: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.bytes.len());
        // What follows a gap is not kept.
        let whole = self.bytes.len() == self.size;
        let kept = piece.get(..piece.len().min(room)).filter(|_| whole);
        self.bytes.extend_from_slice(kept.unwrap_or_default());
        self.size += piece.len();
    }

    /// A piece is left out; how large it was is not known.
    pub(super) fn skip(&mut self) {
        self.size += 1;
    }

    /// What has come; the next begins anew.
    pub(super) fn text(&mut self) -> Text {
        let Self { bytes, size } = std::mem::take(self);
        Text {
            head: bytes.into(),
            size,
            told: None,
        }
    }

    /// The same of a line, unless it is blank or nothing of it is known.
    fn line(&mut self) -> Option<Text> {
        let text = self.text();
        (!text.head.trim_ascii().is_empty()).then_some(text)
    }
}

/// How a body with these headers is compressed, if it is.
pub(super) fn coding(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let codings = values.flat_map(|value| value.to_str().unwrap_or("unknown").split(','));
    let codings = codings.map(str::trim);
    let codings: Vec<&str> = codings
        .filter(|it| !it.is_empty() && !it.eq_ignore_ascii_case("identity"))
        .collect();
    (!codings.is_empty()).then(|| short(codings.join(", ")))
}
