//! The ledger: every request of the client that has had no outcome yet, and what is known about it.
//!
//! A request enters when its POST is accepted and leaves with its one outcome; what is not in the ledger can have no
//! second outcome (invariants I1 and I2). Bound: [`super::Settings::max_in_flight`] entries.

use std::time::{Duration, Instant};

use super::modern::rounds::Rounds;
use super::vocabulary::{CallId, PostId};
use crate::proto::jsonrpc::{Id, Message};

/// Where a message of the client came from: what its exchanges upstream need, and the POST that waits for a status.
#[derive(Clone, Debug)]
pub(super) struct Origin<C> {
    pub(super) context: C,
    pub(super) credential: u64,
    /// The POST, while it is held for the upstream's status.
    pub(super) post: Option<PostId>,
}

/// Where a request is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Waiting for the handshake.
    Queued,
    /// In an exchange with the upstream.
    Sent(CallId),
    /// No connection was made, or a safe method's was lost: it is sent again at this time.
    RetryAt(Instant),
    /// Its reply stream ended early: it is resumed at this time.
    ResumeAt(Instant),
    /// It is not known yet which headers it needs.
    AwaitingTools,
    /// The client is asked for what the upstream wants to know first.
    Asking,
    /// The stream that carries what it subscribes to is being opened.
    Subscribing,
}

/// Attempts to connect that failed in a row, and when the first of them did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    pub(super) failures: u32,
    pub(super) since: Option<Instant>,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Request<C> {
    pub(super) message: Message,
    pub(super) origin: Origin<C>,
    pub(super) place: Place,
    /// When the client is told that it took too long.
    pub(super) deadline: Instant,
    /// Whether the upstream may have seen it; once true it stays true, except when the upstream proved otherwise.
    pub(super) sent: bool,
    /// The handshake whose session it was sent on.
    pub(super) generation: u32,
    pub(super) attempts: Attempts,
    /// Whether its one repetition, as a safe method, is used up; then nobody knows what became of the first.
    pub(super) resent: bool,
    /// Whether it was replayed on a new session.
    pub(super) replayed: bool,
    /// The last event id of its reply stream, and the wait that the stream asked for.
    pub(super) mark: Option<Box<str>>,
    pub(super) retry: Option<Duration>,
    /// Resumptions in a row that brought nothing.
    pub(super) resumes: u32,
    /// Whether its reply stream carried something that was dropped as too large or not JSON-RPC.
    pub(super) oversized: bool,
    pub(super) garbled: bool,
    /// The id it has upstream, where that is not the client's.
    pub(super) wire_id: Option<Id>,
    /// What the upstream wanted to know before it answers.
    pub(super) rounds: Option<Box<Rounds>>,
    /// Whether the list of tools was read for its sake, and read again.
    pub(super) tools_asked: bool,
    pub(super) tools_refreshed: bool,
}

impl<C> Request<C> {
    pub(super) fn new(message: Message, origin: Origin<C>, deadline: Instant) -> Self {
        Self {
            message,
            origin,
            place: Place::Queued,
            deadline,
            sent: false,
            generation: 0,
            attempts: Attempts::default(),
            resent: false,
            replayed: false,
            mark: None,
            retry: None,
            resumes: 0,
            oversized: false,
            garbled: false,
            wire_id: None,
            rounds: None,
            tools_asked: false,
            tools_refreshed: false,
        }
    }

    /// Sends it once more, because it is safe to run twice. What its last exchange brought is forgotten.
    pub(super) fn send_anew(&mut self, at: Instant) {
        self.resent = true;
        self.place = Place::RetryAt(at);
        self.mark = None;
        self.retry = None;
        self.resumes = 0;
        self.oversized = false;
        self.garbled = false;
    }

    pub(super) fn is_initialize(&self) -> bool {
        self.message.method() == "initialize"
    }

    /// When something is to be done for it, if nothing arrives before.
    pub(super) fn due(&self) -> Instant {
        match self.place {
            Place::RetryAt(at) | Place::ResumeAt(at) => at.min(self.deadline),
            Place::Queued
            | Place::Sent(_)
            | Place::AwaitingTools
            | Place::Asking
            | Place::Subscribing => self.deadline,
        }
    }
}
