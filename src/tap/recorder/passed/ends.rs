//! How passing requests go that no message settles: answers that end without one, requests that the ferry refuses.
//! Bounds: [`MAX_FAILED`] requests that ended without an answer are remembered.

use std::collections::VecDeque;
use std::sync::Arc;

use hyper::Method;
use tokio::time::Instant;

use super::{Passage, Passages, leg};
use crate::tap::Head;
use crate::tap::record::{MessageKind, Outcome, Party};
use crate::tap::recorder::Recorder;

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
        let outcome = self.end_of(&passage);
        let bytes = match outcome {
            Outcome::Error | Outcome::Sent => passage.came,
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
    fn end_of(&self, passage: &Passage) -> Outcome {
        let row = passage.exchange.and_then(|it| self.open.get(&it));
        let is_message = row.is_none_or(|open| open.row.kind != MessageKind::Unknown);
        match passage.gap {
            _ if passage.is_refused() => Outcome::Error,
            true => Outcome::Missed,
            false if is_message || passage.status.is_none() => Outcome::Lost,
            false => Outcome::Sent,
        }
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
