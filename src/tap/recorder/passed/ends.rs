//! How passing requests go that no message settles: answers that end without one or cannot be read, requests that the ferry
//! refuses. Bounds: [`MAX_FAILED`] requests that ended without an answer are remembered.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::Method;
use tokio::time::Instant;

use super::body::{Answer, Coded};
use super::{Passage, Passages, leg};
use crate::tap::Head;
use crate::tap::record::{Kind, MessageKind, Outcome, Party, Record, Summary};
use crate::tap::recorder::{Leg, Recorder};

/// Requests that ended without an answer and are remembered until the ferry says why: the next thing that it says of them.
const MAX_FAILED: usize = 32;

/// Requests that ended last without an answer of the upstream. The ferry may have refused them then, and says so.
#[derive(Debug, Default)]
pub(super) struct Unanswered(VecDeque<Failed>);

/// A request that ended before it was answered.
#[derive(Debug)]
struct Failed {
    head: Arc<Head>,
    label: Arc<str>,
    exchange: Option<u64>,
}

impl Passages {
    /// Remembers a request that ended without an answer.
    pub(in crate::tap::recorder) fn fails(
        &mut self,
        head: Arc<Head>,
        label: &Arc<str>,
        exchange: Option<u64>,
    ) {
        self.unanswered.add(Failed {
            head,
            label: Arc::clone(label),
            exchange,
        });
    }
}

impl Unanswered {
    fn add(&mut self, failed: Failed) {
        if self.0.len() >= MAX_FAILED {
            self.0.pop_front();
        }
        self.0.push_back(failed);
    }

    /// The request with this head, which is shared by all who tell of it.
    fn take(&mut self, head: &Arc<Head>) -> Option<Failed> {
        let place = self.0.iter().position(|it| Arc::ptr_eq(&it.head, head))?;
        self.0.remove(place)
    }
}

impl Recorder {
    pub(super) fn passage_ended(
        &mut self,
        at: Instant,
        number: u64,
        mut passage: Passage,
        why: Option<&str>,
    ) {
        if let Some(text) = passage.answer.finish(passage.gap) {
            self.server_said(at, number, &passage, &text);
        }
        if let Answer::Coded(coded) = &passage.answer
            && passage.came > 0
        {
            let leg = leg(&passage, number, Party::Server);
            let record = self.unread(at, leg, passage.came, &coded.coding);
            self.push(record);
        }
        let outcome = self.end_of(&passage, why);
        let bytes = match outcome {
            Outcome::Error | Outcome::Sent | Outcome::Unread => passage.came,
            _ => 0,
        };
        self.settle(at, passage.exchange, outcome, None, bytes);
        self.ended(at, leg(&passage, number, Party::Server), why);
        let Some(label) = passage.label.clone() else {
            return;
        };
        self.passages.clients.saw(&label, at);
        if passage.status.is_none() {
            self.passages.fails(passage.head, &label, passage.exchange);
        } else if passage.head.method == Method::DELETE
            && passage.status().is_some_and(|it| it.is_success())
        {
            self.close_client(at, &label);
        }
    }

    /// How a request went whose answer has ended without a message that says so.
    fn end_of(&self, passage: &Passage, why: Option<&str>) -> Outcome {
        let row = passage.exchange.and_then(|it| self.open.get(&it));
        let is_message = row.is_none_or(|open| open.row.kind != MessageKind::Unknown);
        let succeeded = passage.status().is_some_and(|it| it.is_success());
        match &passage.answer {
            _ if passage.is_refused() => Outcome::Error,
            // Pieces that are left out of it make no difference.
            Answer::Coded(Coded { is_stream, .. })
                if succeeded && passage.came > 0 && (*is_stream || why.is_none()) =>
            {
                Outcome::Unread
            }
            _ if passage.gap => Outcome::Missed,
            _ if is_message || passage.status.is_none() => Outcome::Lost,
            _ => Outcome::Sent,
        }
    }

    /// A record of a message that is compressed.
    pub(super) fn unread(&mut self, at: Instant, leg: Leg, size: usize, coding: &str) -> Record {
        if let Some(row) = self.row(leg.exchange) {
            row.messages = row.messages.saturating_add(1);
        }
        let mut record = self.record_on(at, Kind::Message, leg);
        record.size = Some(size);
        record.message = Some(Summary::default());
        let why = format!("the body is compressed ({coding}): the tap does not read it");
        record.why = Some(self.redactor.text(&why));
        record
    }

    /// The ferry refused a request: whose it was and its exchange, if it ended just now without an answer.
    pub(in crate::tap::recorder) fn refused_after_all(
        &mut self,
        head: &Arc<Head>,
    ) -> Option<(Option<Arc<str>>, Option<u64>)> {
        let failed = self.passages.unanswered.take(head)?;
        Some((Some(failed.label), failed.exchange))
    }
}
