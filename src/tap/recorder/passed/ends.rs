//! How passing requests go that no message settles: answers that end without one or cannot be read, notifications that are
//! not taken, requests that the ferry refuses.
//!
//! Some of that is known only when a row is over already: then the row is shown again, with what was learnt. Bounds:
//! [`MAX_FAILED`] requests that ended without an answer are remembered.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::Method;
use tokio::time::Instant;

use super::body::{Answer, Coded};
use super::{Passage, Passages, leg};
use crate::proto::era::{self, VERSION_HEADER};
use crate::tap::record::{ExchangeRow, Kind, MessageKind, Outcome, Party, Record, Summary};
use crate::tap::recorder::{Leg, Recorder};
use crate::tap::{CLIENT_LEFT, Head};

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
    /// Its row as it was then, if that does not say yet that it was refused.
    row: Option<ExchangeRow>,
}

impl Passages {
    /// Remembers a request that ended without an answer and whose row says how.
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
            row: None,
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
        self.passages.asked(&passage);
        if let Some(text) = passage.answer.finish(passage.gap) {
            self.server_said(at, number, &mut passage, &text);
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
        self.told_end(&mut passage);
        self.ended(at, leg(&passage, number, Party::Server), why);
        let Some(label) = passage.label.clone() else {
            return;
        };
        self.passages.clients.saw(&label, at);
        if passage.status.is_none() {
            self.unanswered(passage, &label);
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
            // That is how a client of this revision cancels (2026-07-28, "Cancellation").
            _ if why == Some(CLIENT_LEFT) && is_message && is_modern(&passage.head) => {
                Outcome::Cancelled
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

    /// A request has ended without an answer. If the ferry refused it, that is said next.
    fn unanswered(&mut self, passage: Passage, label: &Arc<str>) {
        let open = passage.exchange.and_then(|it| self.open.get(&it));
        let lost =
            open.filter(|open| matches!(open.row.outcome, Outcome::Lost | Outcome::Cancelled));
        self.passages.unanswered.add(Failed {
            row: passage.told.or_else(|| lost.map(|open| open.row.clone())),
            head: passage.head,
            label: Arc::clone(label),
            exchange: passage.exchange,
        });
    }

    /// The ferry refused a request: whose it was and its exchange, if it ended just now without an answer.
    pub(in crate::tap::recorder) fn refused_after_all(
        &mut self,
        head: &Arc<Head>,
        status: u16,
    ) -> Option<(Option<Arc<str>>, Option<u64>)> {
        let failed = self.passages.unanswered.take(head)?;
        if let Some(row) = failed.row {
            // What is lost counts as an error already.
            let errors = u64::from(row.outcome != Outcome::Lost);
            self.show_again(row, |row| {
                row.outcome = Outcome::Refused;
                row.status = Some(status);
            });
            if let Some(row) = self.connection_row(&failed.label) {
                row.errors += errors;
            }
        }
        Some((Some(failed.label), failed.exchange))
    }

    /// What was only told has got its status, by which it may have failed.
    pub(super) fn told_status(&mut self, passage: &mut Passage) {
        let (status, refused) = (passage.status, passage.is_refused());
        let Some(row) = passage.told.take() else {
            return;
        };
        passage.told = self.show_again(row, |row| {
            row.status = status;
            if refused {
                row.outcome = Outcome::Error;
            }
        });
        if refused
            && let Some(row) = passage
                .label
                .as_ref()
                .and_then(|it| self.connection_row(it))
        {
            row.errors += 1;
        }
    }

    /// What was only told and failed has the end of its answer.
    fn told_end(&mut self, passage: &mut Passage) {
        if let Some(row) = passage.told.take_if(|row| row.outcome == Outcome::Error) {
            passage.told = self.show_again(row, |row| {
                row.code = passage.code;
                row.response_bytes = passage.came;
            });
        }
    }
}

/// Whether a request says that it is of a revision without sessions.
fn is_modern(head: &Head) -> bool {
    let version = head.headers.get(VERSION_HEADER);
    version.is_some_and(|it| it.to_str().is_ok_and(era::is_modern_version))
}
