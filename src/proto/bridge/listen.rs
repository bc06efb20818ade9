//! The listen stream: the GET on which a handshake-era upstream sends what no request asked for.
//!
//! It opens after `notifications/initialized` was accepted, and only with a session (stateless Python servers would
//! answer with a stream that is silent for ever). Nothing waits for it. A 405 is a normal answer and is remembered;
//! a stream that ends is opened again, after the time that the upstream asked for and from the event it was at; where it
//! named no event, the client is told that it may have missed something (`missed`).

use std::time::{Duration, Instant};

use super::Bridge;
use super::Purpose;
use super::handshake::Phase;
use super::vocabulary::{Body, CallId, Counted, End, Refusal, Verb};

/// Waiting times double from the first to the last while attempts bring nothing.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// A stream that lived this long was a success, whatever ended it.
const GOOD_LIFE: Duration = Duration::from_secs(5);

/// How the listen stream of the present session stands.
#[derive(Debug, Default)]
pub(super) struct Listen {
    state: State,
    mark: Option<Box<str>>,
    retry: Option<Duration>,
    failures: u32,
    /// When the present stream began; set once an answer came.
    began: Option<Instant>,
    /// Whether any stream of this session ever began: only then does a 404 mean that the session is lost.
    worked: bool,
    /// Whether the present stream was asked to go on where the last one ended.
    resumed: bool,
    /// Whether the last attempt found no connection.
    unreached: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Open(CallId),
    ReopenAt(Instant),
    /// The upstream has no such stream.
    NotOffered,
    /// The upstream refused this credential; the next one that it takes may listen.
    Unauthorized(u64),
}

impl Listen {
    pub(super) fn due(&self) -> Option<Instant> {
        match self.state {
            State::ReopenAt(at) => Some(at),
            _ => None,
        }
    }

    pub(super) fn call(&self) -> Option<CallId> {
        match self.state {
            State::Open(call) => Some(call),
            _ => None,
        }
    }
}

impl<C: Clone> Bridge<C> {
    pub(super) fn open_listen(&mut self) {
        if !self.settings.listen
            || self.session.id.is_none()
            || matches!(self.listen.state, State::Open(_) | State::NotOffered)
        {
            return;
        }
        let Some((context, credential)) = self.latest.clone() else {
            return;
        };
        let verb = Verb::Get {
            last_event_id: self.listen.mark.clone(),
        };
        self.listen.resumed = self.listen.mark.is_some();
        let call = self.send(Purpose::Listen, verb, context, credential);
        self.listen.began = None;
        self.listen.unreached = false;
        self.listen.state = State::Open(call);
    }

    pub(super) fn close_listen(&mut self) {
        if let Some(call) = std::mem::take(&mut self.listen).call() {
            self.abort(call);
        }
        self.listen.state = State::NotOffered;
    }

    pub(super) fn on_listen_due(&mut self) {
        if self.listen.due().is_some_and(|at| at <= self.now) {
            self.count(Counted::ListenReopened);
            self.open_listen();
        }
    }

    /// The upstream is there: what waits only because it could not be reached waits no longer.
    pub(super) fn listen_to_who_is_back(&mut self) {
        if self.listen.unreached && matches!(self.listen.state, State::ReopenAt(_)) {
            self.listen.failures = 0;
            self.listen.state = State::ReopenAt(self.now);
            self.on_listen_due();
        }
    }

    /// The upstream took this credential: a listen stream that was refused for another one may be had now.
    pub(super) fn listen_with(&mut self, credential: u64) {
        if self.phase == Phase::Open
            && matches!(self.listen.state, State::Unauthorized(refused) if refused != credential)
        {
            self.open_listen();
        }
    }

    pub(super) fn listen_began(&mut self, id: CallId, body: Body) {
        if body == Body::Events {
            self.listen.began = Some(self.now);
            if std::mem::replace(&mut self.listen.worked, true) && !self.listen.resumed {
                self.tell_of_changes();
            }
        } else {
            // A 2xx that is no event stream: there is nothing to listen to.
            self.abort(id);
            self.listen.state = State::NotOffered;
        }
    }

    pub(super) fn listen_marked(&mut self, event_id: Option<Box<str>>, retry: Option<Duration>) {
        self.listen.failures = 0;
        if let Some(event_id) = event_id {
            // An empty id takes back the last one (HTML, "Processing the stream").
            self.listen.mark = Some(event_id).filter(|id| !id.is_empty());
        }
        self.listen.retry = retry.or(self.listen.retry);
    }

    pub(super) fn listen_refused(
        &mut self,
        refusal: &Refusal,
        lost: bool,
        generation: u32,
        credential: u64,
    ) {
        match refusal.status {
            _ if lost && self.listen.worked => {
                self.lose_session(generation);
                self.renew_session();
            }
            401 | 403 => self.listen.state = State::Unauthorized(credential),
            // A store that forgot the event answers 400 or 500: once more, without the event.
            400 | 500 if self.listen.mark.is_some() => {
                self.listen.mark = None;
                self.reopen_later();
            }
            408 | 409 | 425 | 429 | 500..=599 => self.reopen_later(),
            _ => self.listen.state = State::NotOffered,
        }
    }

    pub(super) fn listen_ended(&mut self, end: &End) {
        if matches!(end, End::WrongType(_)) {
            self.listen.state = State::NotOffered;
            return;
        }
        if self
            .listen
            .began
            .is_some_and(|began| self.now.duration_since(began) >= GOOD_LIFE)
        {
            self.listen.failures = 0;
        }
        self.listen.unreached = matches!(end, End::Unreached(_));
        self.reopen_later();
    }

    fn reopen_later(&mut self) {
        let doubled = FIRST_WAIT
            .saturating_mul(1 << self.listen.failures.min(8))
            .min(LAST_WAIT);
        self.listen.failures = self.listen.failures.saturating_add(1);
        let wait = self
            .jitter(doubled)
            .max(self.listen.retry.unwrap_or_default());
        self.listen.state = State::ReopenAt(self.now + wait);
    }
}
