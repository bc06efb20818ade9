//! How the ferry reads the body of an answer: bytes in any pieces go through the decoders of the library, and come out
//! as replies, by the rules of `src/upstream/call.rs`.

use std::time::Duration;

use bytes::Bytes;
use mcp_ferry::proto::bridge::{Body, End, Reply};
use mcp_ferry::proto::{json_lines, sse};

/// One body being read.
#[derive(Debug)]
pub enum Reader {
    /// Nothing is to be read: no head yet, a body without messages, or one that was given up.
    Silent,
    Json(Vec<u8>, usize),
    Events(sse::Decoder),
    Lines(json_lines::Decoder),
}

impl Reader {
    pub fn new(body: Body, limit: usize) -> Self {
        match body {
            Body::Json => Self::Json(Vec::new(), limit),
            Body::Events => Self::Events(sse::Decoder::new(limit)),
            Body::Lines => Self::Lines(json_lines::Decoder::new(limit)),
            Body::Other => Self::Silent,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Vec<Reply> {
        let mut replies = Vec::new();
        match self {
            Self::Silent => {}
            Self::Json(text, limit) => {
                if text.len() + bytes.len() > *limit {
                    replies.extend([Reply::Oversized, Reply::End(End::Complete)]);
                    *self = Self::Silent;
                } else {
                    text.extend_from_slice(bytes);
                }
            }
            Self::Events(decoder) => decoder.push(bytes, |decoded| on_event(decoded, &mut replies)),
            Self::Lines(decoder) => decoder.push(bytes, |decoded| replies.push(on_line(decoded))),
        }
        if replies.is_empty() {
            replies.push(Reply::Alive);
        }
        replies
    }

    pub fn finish(self, end: End) -> Vec<Reply> {
        let mut replies = Vec::new();
        match self {
            Self::Json(text, _) if end == End::Complete && !text.trim_ascii().is_empty() => {
                replies.push(Reply::Message {
                    text: text.into(),
                    event_id: None,
                });
            }
            Self::Lines(mut decoder) if end == End::Complete => {
                decoder.finish(|decoded| replies.push(on_line(decoded)));
            }
            _ => {}
        }
        replies.push(Reply::End(end));
        replies
    }
}

fn on_event(decoded: sse::Decoded, replies: &mut Vec<Reply>) {
    let sse::Decoded::Event(event) = decoded else {
        return replies.push(Reply::Oversized);
    };
    if event.retry.is_some() || event.data.is_empty() {
        replies.push(Reply::Mark {
            event_id: event.id.clone(),
            retry: event.retry.map(Duration::from_millis),
        });
    }
    if !event.data.is_empty() && (event.name.is_empty() || &*event.name == "message") {
        replies.push(Reply::Message {
            text: Bytes::clone(&event.data),
            event_id: event.id,
        });
    }
}

fn on_line(decoded: json_lines::Decoded) -> Reply {
    match decoded {
        json_lines::Decoded::Line(text) => Reply::Message {
            text,
            event_id: None,
        },
        json_lines::Decoded::Oversized => Reply::Oversized,
    }
}
