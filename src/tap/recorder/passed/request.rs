//! What a passing request is, once its body has come: which exchange it begins, or which it settles. Bounds: batches of more
//! than [`MAX_BATCH`] messages are not looked into.

use std::sync::Arc;

use hyper::Method;
use tokio::time::Instant;

use super::body::coding;
use super::{Passage, leg};
use crate::proto::era::METHOD_HEADER;
use crate::proto::object::elements;
use crate::tap::record::{Direction, Kind, MessageKind, Outcome, Party};
use crate::tap::recorder::Recorder;
use crate::tap::recorder::rows::MAX_BATCH;
use crate::tap::recorder::translated::{outcome, read};
use crate::tap::summary::{self, Read, short};
use crate::tap::{Head, Text};

/// What a batch holds.
struct Batch {
    messages: Vec<Read>,
    /// What its row is: a request where the server owes it an answer, unknown where it was cut or is more than [`MAX_BATCH`].
    kind: MessageKind,
}

impl Batch {
    fn of(text: &Text) -> Self {
        let whole = (!text.is_cut()).then(|| String::from_utf8_lossy(&text.head));
        let elements = whole.as_deref().and_then(elements);
        let Some(elements) = elements.filter(|it| it.len() <= MAX_BATCH) else {
            return Self {
                messages: Vec::new(),
                kind: MessageKind::Unknown,
            };
        };
        let messages = elements.iter().map(|it| summary::read(it, true));
        let messages: Vec<Read> = messages.collect();
        let needs_no_answer = |read: &Read| {
            use MessageKind::{Error, Notification, Result};
            matches!(read.summary.kind, Notification | Result | Error)
        };
        // What is empty or broken is answered with an error.
        let kind = match !messages.is_empty() && messages.iter().all(needs_no_answer) {
            true => MessageKind::Notification,
            false => MessageKind::Request,
        };
        Self { messages, kind }
    }
}

impl Recorder {
    /// The client's part is known: whose it is, and what.
    pub(super) fn request_passed(&mut self, number: u64, passage: &mut Passage) {
        let at = passage.began;
        let text = passage.upload.text();
        let coding = coding(&passage.head.headers).filter(|_| text.size > 0);
        let mut read = match coding {
            Some(_) => Read::default(),
            None => read(&text),
        };
        name_by_headers(&mut read, &passage.head);
        let label = self.client_of(passage, &read);
        passage.label = Some(Arc::clone(&label));
        passage.exchange = self.exchange_of(at, passage, &label, &read, &text);
        self.called(at, passage.exchange);
        let leg = leg(passage, number, Party::Client);
        let mut record = match coding {
            Some(coding) => {
                let mut record = self.unread(at, leg, text.size, &coding);
                record.message = Some(read.summary);
                self.redact_summary(&mut record);
                record
            }
            None if text.size > 0 => self.message(at, leg, &text, read),
            None => self.record_on(at, Kind::Message, leg),
        };
        record.http = Some(self.head(&passage.head));
        self.push(record);
        let row = passage.exchange.and_then(|it| self.open.get(&it));
        let told = row.filter(|it| it.row.outcome == Outcome::Sent);
        passage.told = told.map(|it| it.row.clone());
    }

    fn exchange_of(
        &mut self,
        at: Instant,
        passage: &mut Passage,
        label: &Arc<str>,
        read: &Read,
        text: &Text,
    ) -> Option<u64> {
        let begin = |recorder: &mut Self| {
            recorder.begin(at, label, Direction::ToServer, &read.summary, text.size)
        };
        match read.summary.kind {
            MessageKind::Request => {
                let exchange = begin(self);
                passage.id = self.passages.asks(label, read.id.as_ref(), exchange);
                Some(exchange)
            }
            // A cancel belongs to what it cancels.
            MessageKind::Notification => {
                let cancelled = self.passing_cancelled(at, label, read);
                Some(cancelled.unwrap_or_else(|| begin(self)))
            }
            MessageKind::Batch => Some(self.batch_passed(at, label, read, text)),
            MessageKind::Result | MessageKind::Error => {
                self.client_answered(at, label, read, text.size)
            }
            // A GET or DELETE has no message and needs none.
            MessageKind::Unknown if text.size == 0 && passage.head.method != Method::POST => None,
            MessageKind::Unknown => {
                let (head, outcome) = (&passage.head, Outcome::Open);
                Some(self.begin_unread(at, Some(label), head, text.size, outcome))
            }
        }
    }

    /// An array of messages has one row; what in it ends something else does so.
    fn batch_passed(&mut self, at: Instant, label: &Arc<str>, read: &Read, text: &Text) -> u64 {
        let Batch { messages, kind } = Batch::of(text);
        let mut summary = read.summary.clone();
        summary.method = Some("batch".to_owned());
        // It has an end of its own unless nothing in it is to be answered.
        summary.kind = match kind {
            MessageKind::Unknown => MessageKind::Request,
            kind => kind,
        };
        let exchange = self.begin(at, label, Direction::ToServer, &summary, text.size);
        if let Some(row) = self.row(Some(exchange)) {
            row.kind = kind;
        }
        for read in &messages {
            match read.summary.kind {
                MessageKind::Result | MessageKind::Error => {
                    self.client_answered(at, label, read, 0);
                }
                MessageKind::Notification => {
                    self.passing_cancelled(at, label, read);
                }
                _ => {}
            }
        }
        exchange
    }

    /// The client answers what the server asked.
    fn client_answered(
        &mut self,
        at: Instant,
        label: &Arc<str>,
        read: &Read,
        size: usize,
    ) -> Option<u64> {
        let connection = self.connections.get_mut(label);
        let asked = connection
            .zip(read.id.as_ref())
            .and_then(|(connection, id)| connection.answered_to_server(id));
        self.settle(at, asked, outcome(read), read.summary.code, size);
        asked
    }

    /// The client's request that this cancels, if it does.
    fn passing_cancelled(&mut self, at: Instant, label: &Arc<str>, read: &Read) -> Option<u64> {
        let name = (Arc::clone(label), read.cancels.clone()?);
        let cancelled = self.passages.asking.remove(&name);
        self.settle(at, cancelled, Outcome::Cancelled, None, 0);
        cancelled
    }
}

/// A message that was cut or compressed has lost its method; a modern request repeats it in its headers.
fn name_by_headers(read: &mut Read, head: &Head) {
    let header = |name: &str| {
        let value = head.headers.get(name)?.to_str().ok()?;
        Some(short(value.to_owned()))
    };
    if read.summary.method.is_none()
        && read.summary.kind == MessageKind::Unknown
        && let Some(method) = header(METHOD_HEADER)
    {
        // The names of all notifications begin so.
        read.summary.kind = match method.starts_with("notifications/") {
            true => MessageKind::Notification,
            false => MessageKind::Request,
        };
        read.summary.method = Some(method);
        read.summary.name = header("mcp-name");
    }
}
