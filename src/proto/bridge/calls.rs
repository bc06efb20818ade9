//! Exchanges with the upstream that are open: what each is for, and how they begin, linger and are dropped.
//!
//! An exchange is one HTTP request and its answer. What its answer means is in `replies` and `ends`. Bound: one for each
//! request, notification and answer of the client that is under way, [`MAX_LINGERING`] that have served their purpose, and
//! a few of the ferry's own.

use std::time::{Duration, Instant};

use super::Bridge;
use super::handshake::Session;
use super::ledger::{Attempts, Origin};
use super::modern::discover::Discovery;
use super::vocabulary::{About, CallId, Cause, Exchange, Mirrored, Output, Verb};
use crate::proto::jsonrpc::{Id, Message};

/// How long an exchange may stay open after its request had its outcome.
pub(super) const LINGER: Duration = Duration::from_secs(5);
/// Exchanges that may do so at once; one more is dropped with the outcome.
const MAX_LINGERING: usize = 16;

/// What waits behind the gate of the handshake.
#[derive(Debug)]
pub(super) enum Queued<C> {
    /// A request; the ledger has it.
    Request(Id),
    /// A notification.
    Notice(Notice<C>),
}

/// A notification of the client, or its answer to a request of the upstream.
#[derive(Debug)]
pub(super) struct Notice<C> {
    pub(super) message: Message,
    pub(super) origin: Origin<C>,
    pub(super) attempts: Attempts,
    /// Whether its one repetition on a new session is used up, or there shall be none.
    pub(super) replayed: bool,
}

/// Why an exchange with the upstream was started.
#[derive(Debug)]
pub(super) enum Purpose<C> {
    /// For this request of the ledger: a POST, or a GET that resumes.
    Request(Id),
    /// It has served its purpose. What still comes is relayed, but no answer.
    Abandoned,
    /// A notification or an answer of the client.
    Notice(Notice<C>),
    /// The client's cancel of a request; the exchange that it cancels is dropped when this one is settled.
    Cancel(Option<CallId>),
    /// The ferry's own `initialize`, on behalf of what came from there; or the client's, once the client is gone.
    OwnInitialize(Origin<C>, Attempts, Id),
    /// The ferry's own `notifications/initialized`.
    OwnInitialized,
    /// Log level or subscription, restored after the session was lost.
    Restore,
    /// The stream for what the upstream sends unasked.
    Listen,
    /// `server/discover`, asked of a modern upstream.
    Discover(Box<Discovery<C>>),
    /// The ferry's own `tools/list`.
    ListTools(Option<Box<Message>>),
    /// The stream for what a modern upstream tells unasked.
    Subscriptions,
    /// The end of a session, or a word of farewell; the answer does not matter.
    Farewell,
}

impl<C> Purpose<C> {
    /// What those who watch are told.
    fn cause(&self) -> Cause {
        match self {
            Self::Request(id) => Cause::Request(id.clone()),
            Self::Discover(discovery) => match discovery.client_request() {
                Some(id) => Cause::Request(id.clone()),
                None => Cause::Discover,
            },
            Self::Notice(_) => Cause::Notice,
            Self::Cancel(_) => Cause::Cancel,
            Self::OwnInitialize(..) => Cause::Handshake,
            Self::OwnInitialized => Cause::Initialized,
            Self::Restore => Cause::Restore,
            Self::Listen => Cause::Listen,
            Self::ListTools(_) => Cause::ListTools,
            Self::Subscriptions => Cause::Subscriptions,
            Self::Abandoned | Self::Farewell => Cause::Farewell,
        }
    }
}

/// One open exchange with the upstream.
#[derive(Debug)]
pub(super) struct Call<C> {
    pub(super) purpose: Purpose<C>,
    /// Of the session that it was started with.
    pub(super) generation: u32,
    /// Whether a session id went with it.
    pub(super) with_session: bool,
    /// Whether it was said in the modern revision.
    pub(super) modern: bool,
    pub(super) credential: u64,
    /// The session id of its answer, which counts only when the answer is a good `initialize`.
    pub(super) session: Option<Box<str>>,
    /// When it is dropped, or its failure assumed.
    pub(super) deadline: Option<Instant>,
    /// When the upstream was last heard in it, or it began.
    pub(super) heard: Instant,
}

impl<C> Call<C> {
    /// When a request's exchange has been silent for too long.
    pub(super) fn silent_at(&self, limit: Duration) -> Option<Instant> {
        matches!(self.purpose, Purpose::Request(_)).then(|| self.heard + limit)
    }
}

impl<C: Clone> Bridge<C> {
    /// What a message that came in this exchange has to do with.
    pub(super) fn about(&self, call: CallId) -> About {
        match self.calls.get(&call).map(|call| &call.purpose) {
            Some(Purpose::Request(id)) => About::During(id.clone()),
            _ => About::Nothing,
        }
    }

    pub(super) fn send(
        &mut self,
        purpose: Purpose<C>,
        verb: Verb,
        context: C,
        credential: u64,
    ) -> CallId {
        let session = self.session.clone();
        self.send_on(&session, purpose, verb, Vec::new(), context, credential)
    }

    pub(super) fn send_on(
        &mut self,
        session: &Session,
        purpose: Purpose<C>,
        verb: Verb,
        mirrored: Vec<Mirrored>,
        context: C,
        credential: u64,
    ) -> CallId {
        self.last_call += 1;
        let id = CallId(self.last_call);
        let call = Call {
            purpose,
            generation: session.generation,
            with_session: session.id.is_some(),
            modern: session.is_modern(),
            credential,
            session: None,
            deadline: None,
            heard: self.now,
        };
        let repeated = self.repeats(&call.purpose);
        let cause = call.purpose.cause();
        self.calls.insert(id, Box::new(call));
        let exchange = Exchange {
            verb,
            session: session.id.clone(),
            version: session.version.clone(),
            mirrored,
            context,
            repeated,
            cause,
        };
        self.emit(Output::Send(id, exchange));
        id
    }

    /// Whether an exchange for this purpose was had before, or tried.
    fn repeats(&self, purpose: &Purpose<C>) -> bool {
        match purpose {
            Purpose::Request(id) => self
                .ledger
                .get(id)
                .is_some_and(|request| request.resent || request.attempts.failures > 0),
            Purpose::OwnInitialize(_, attempts, _) => attempts.failures > 0,
            Purpose::Discover(discovery) => discovery.attempts.failures > 0,
            Purpose::Notice(notice) => notice.attempts.failures > 0,
            _ => false,
        }
    }

    /// Gives an exchange until then.
    pub(super) fn limit(&mut self, call: CallId, time: Duration) {
        let deadline = self.now + time;
        if let Some(call) = self.calls.get_mut(&call) {
            call.deadline = Some(deadline);
        }
    }

    /// An exchange has served its purpose. It may end by itself, so that its connection can be used again.
    pub(super) fn let_linger(&mut self, call: CallId) {
        let abandoned = |call: &&Call<C>| matches!(call.purpose, Purpose::Abandoned);
        if self
            .calls
            .values()
            .map(Box::as_ref)
            .filter(abandoned)
            .count()
            >= MAX_LINGERING
        {
            return self.abort(call);
        }
        if let Some(call) = self.calls.get_mut(&call) {
            call.purpose = Purpose::Abandoned;
        }
        self.limit(call, LINGER);
    }

    /// Drops an exchange, if it is still open.
    pub(super) fn abort(&mut self, call: CallId) {
        if self.calls.remove(&call).is_some() {
            self.emit(Output::Abort(call));
        }
    }
}
