//! The bodies of requests that pass, put together of their pieces: a text or an event stream,.
//!
//! Bounds: of a text or an event, the bytes that the tap keeps of a message.

use hyper::header::{self, HeaderMap};

use crate::proto::sse;
use crate::tap::Text;

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) enum Answer {
    /// Not even its head.
    #[default]
    Nothing,
    /// The event that is not whole yet.
    Events(Box<sse::Decoder>),
    /// All of it, one message.
    Whole(Collected),
}

/// The beginning of a text, and the size of what has come.
#[derive(Debug, Default)]
pub(super) struct Collected {
    bytes: Vec<u8>,
    size: usize,
}

impl Answer {
    /// The answer with these headers, of which nothing has come.
    pub(super) fn begin(headers: &HeaderMap, max_body: usize) -> Self {
        let media = headers.get(header::CONTENT_TYPE);
        let media = media.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default();
        let media = media.trim().to_ascii_lowercase();
        match media == "text/event-stream" {
            true => Self::events(max_body),
            false => Self::Whole(Collected::default()),
        }
    }

    fn events(max_body: usize) -> Self {
        Self::Events(Box::new(sse::Decoder::keeping_beginnings(max_body)))
    }

    /// A piece comes. Gives the messages that end in it.
    pub(super) fn push(&mut self, piece: &[u8], max_body: usize) -> Vec<Text> {
        let mut found = Vec::new();
        match self {
            Self::Nothing => {}
            Self::Whole(collected) => collected.push(piece, max_body),
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
            _ => None,
        }
    }

    /// Pieces are left out.
    pub(super) fn skip(&mut self, max_body: usize) {
        match self {
            Self::Nothing => {}
            Self::Whole(collected) => collected.skip(),
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
}
