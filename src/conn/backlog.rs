//! What waits for a session's client to listen: messages of the upstream that belong to no open answer.
//!
//! Clients open their listen stream a little after the handshake, close it and open it again; some never open one. What
//! comes meanwhile is kept, within [`MAX_BACKLOG`] messages and [`MAX_BACKLOG_BYTES`]. Beyond that the oldest
//! notifications go first, which are counted as undelivered; requests only when nothing else is left, and whoever asked
//! them is to be told.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::proto::jsonrpc::{Kind, Message};

/// Messages that wait for a session's client to listen.
pub const MAX_BACKLOG: usize = 64;
/// Their bytes.
pub const MAX_BACKLOG_BYTES: usize = 256 * 1024;

/// Messages that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    text: Bytes,
    /// The JSON text of its id, where it is a request.
    request: Option<Box<str>>,
}

/// What had to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    Notification,
    /// A request; the JSON text of its id.
    Request(Box<str>),
}

impl Backlog {
    /// Keeps a message. Says what had to go for it, which may be itself.
    pub(super) fn add(&mut self, text: Bytes) -> Vec<Dropped> {
        // The bridge has parsed it once; it has its bounds.
        let request = Message::parse(text.clone())
            .ok()
            .filter(|message| message.kind() == Kind::Request)
            .map(|message| message.id_text().into());
        self.bytes += text.len();
        self.waiting.push_back(Waiting { text, request });
        let mut dropped = Vec::new();
        while self.waiting.len() > MAX_BACKLOG || self.bytes > MAX_BACKLOG_BYTES {
            dropped.extend(self.drop_one());
        }
        dropped
    }

    fn drop_one(&mut self) -> Option<Dropped> {
        let notification = |waiting: &Waiting| waiting.request.is_none();
        let place = self.waiting.iter().position(notification).unwrap_or(0);
        let waiting = self.waiting.remove(place)?;
        self.bytes = self.bytes.saturating_sub(waiting.text.len());
        Some(
            waiting
                .request
                .map_or(Dropped::Notification, Dropped::Request),
        )
    }

    /// Takes the oldest message.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let waiting = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(waiting.text.len());
        Some(waiting.text)
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(number: usize) -> Bytes {
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{number}"}}"#).into()
    }

    fn request(number: usize, size: usize) -> Bytes {
        let padding = "x".repeat(size);
        format!(r#"{{"jsonrpc":"2.0","id":"ferry:{number}","method":"{padding}"}}"#).into()
    }

    #[test]
    fn the_oldest_notifications_go_first_and_requests_last() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.add(request(1, 1)), []);
        for number in 1..MAX_BACKLOG {
            assert_eq!(backlog.add(notification(number)), []);
        }
        assert_eq!(backlog.add(notification(99)), [Dropped::Notification]);
        assert_eq!(backlog.take(), Some(request(1, 1)), "it was the oldest");
        assert_eq!(backlog.take(), Some(notification(2)), "the first had to go");
    }

    #[test]
    fn a_request_that_has_to_go_is_named_and_bytes_are_bounded() {
        let mut backlog = Backlog::default();
        let half = MAX_BACKLOG_BYTES / 2;
        assert_eq!(backlog.add(request(1, half)), []);
        let gone = Dropped::Request("\"ferry:1\"".into());
        assert_eq!(backlog.add(request(2, half)), [gone]);
        assert!(backlog.bytes() <= MAX_BACKLOG_BYTES);
        let gone = [2, 3].map(|id| Dropped::Request(format!("\"ferry:{id}\"").into()));
        assert_eq!(backlog.add(request(3, MAX_BACKLOG_BYTES)), gone);
        assert_eq!((backlog.take(), backlog.bytes()), (None, 0));
    }
}
