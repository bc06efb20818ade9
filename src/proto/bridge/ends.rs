//! How exchanges with the upstream end: refusals, broken streams, resumption, attempts to connect.
//!
//! A stream that ends without the answer is resumed where the upstream gave event ids (2025-11-25 closes streams early
//! on purpose), otherwise its request ends in an error; only methods that are safe to run twice are sent again by
//! themselves. A connection that was never made is tried again for [`CONNECT_WINDOW`], whatever it was for.

use std::time::{Duration, Instant};

use super::handshake::Phase;
use super::ledger::{Attempts, Origin, Place};
use super::modern::discover::{Before, Discovery};
use super::trouble::{Executed, Reason, Trouble};
use super::vocabulary::{About, CallId, Counted, End, Output, Refusal, Verb};
use super::{Bridge, Call, Notice, Purpose, Queued};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::{Id, Kind, Message};

/// Resumptions in a row that bring nothing before the request is given up.
const MAX_RESUMES: u32 = 5;
/// How long to wait before a resumption when the stream did not say (2025-11-25 leaves it to the client).
const RESUME_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a busy upstream may ask for; for a longer one the client is told instead.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How long attempts to connect are repeated: long enough for an upstream that is being restarted.
const CONNECT_WINDOW: Duration = Duration::from_secs(3);

/// What found no connection, and is not a request of the ledger.
#[derive(Debug)]
pub(super) enum Again<C> {
    /// On the session of that handshake; it was sent in this exchange.
    Notice(Notice<C>, u32, CallId),
    Handshake(Origin<C>, Attempts),
    Discover(Box<Discovery<C>>),
}

impl<C> Again<C> {
    /// The message of the client that is tried again.
    pub(super) fn message(&self) -> Option<&Message> {
        match self {
            Self::Notice(notice, ..) => Some(&notice.message),
            Self::Handshake(..) | Self::Discover(_) => None,
        }
    }

    /// Whether it is asked in place of this `initialize` of the client.
    pub(super) fn is_for(&self, id: &Id) -> bool {
        matches!(self, Self::Discover(discovery) if discovery.is_for(id))
    }

    pub(super) fn is_answer(&self) -> bool {
        matches!(self, Self::Notice(notice, ..) if notice.message.kind() == Kind::Response)
    }
}

impl<C: Clone> Bridge<C> {
    pub(super) fn on_refused(&mut self, id: CallId, call: Call<C>, refusal: &Refusal) {
        let challenged = !refusal.challenges.is_empty();
        let lost =
            call.with_session && era::is_unknown_session(refusal.status, challenged, &refusal.body);
        if !lost && matches!(refusal.status, 401 | 403) && self.proven == Some(call.credential) {
            self.proven = None;
        }
        match call.purpose {
            Purpose::Request(request) => {
                let spoken = if call.modern {
                    Era::Modern
                } else {
                    Era::Handshake
                };
                let lost = lost.then_some(call.generation);
                self.request_refused(&request, spoken, refusal, lost)
            }
            Purpose::Notice(notice) => {
                self.confirmed(id, false);
                if lost {
                    return self.replay_notice(notice, call.generation);
                }
                let post = notice.origin.post;
                if !(matches!(refusal.status, 401 | 403) && self.refuse_post(post, refusal)) {
                    self.release_post(post);
                }
            }
            Purpose::Cancel(cancelled) => {
                if let Some(cancelled) = cancelled {
                    self.abort(cancelled);
                }
            }
            Purpose::OwnInitialize(origin, mut attempts, _) => {
                let at = (attempts.failures == 0 && self.leaving.is_none())
                    .then(|| self.try_later(refusal))
                    .flatten();
                if let Some(at) = at {
                    attempts.failures = 1;
                    return self.again.push((at, Again::Handshake(origin, attempts)));
                }
                let before = Before::Refusal(Box::new(refusal.clone()));
                if self.probe_ourselves(origin, refusal.status, before).is_ok() {
                    return;
                }
                let trouble = Trouble::handshake_refused(refusal);
                let auth = matches!(refusal.status, 401 | 403);
                let refused = auth.then_some((refusal, call.credential));
                self.own_initialize_failed(&trouble, refused);
            }
            Purpose::OwnInitialized => self.own_initialized_answered(id, false),
            Purpose::Restore => self.restored(call.generation),
            Purpose::Listen => self.listen_refused(refusal, lost, call.generation, call.credential),
            Purpose::Discover(discovery) => {
                self.discover_refused(discovery, refusal, call.credential);
            }
            Purpose::ListTools(_) => self.tools_unanswered(id),
            Purpose::Subscriptions => self.subscriptions_refused(id, refusal, call.credential),
            Purpose::Abandoned | Purpose::Farewell => {}
        }
    }

    /// `spoken` is the era that it was said in, `lost` the handshake whose session the upstream does not know.
    fn request_refused(&mut self, id: &Id, spoken: Era, refusal: &Refusal, lost: Option<u32>) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let (initialize, resent) = (request.is_initialize(), request.resent);
        let method = request.message.method().to_owned();
        // A mark is set by a reply stream, so what was refused is the GET that goes on from there.
        let resuming = request.mark.is_some();
        if let Some(generation) = lost.filter(|_| resuming) {
            // It ran on the session that is gone; whether to its end, nobody can tell.
            let text = "the upstream lost the session while the request was running; it may have been executed";
            self.fail(
                id,
                &Trouble::new(Reason::SessionLost, Executed::Unknown, text),
            );
            self.lose_session(generation);
            return self.renew_session();
        }
        if let Some(generation) = lost {
            return self.replay(id, generation);
        }
        if resuming {
            let for_now = matches!(refusal.status, 408 | 409 | 425 | 429 | 500..=599);
            return if for_now && self.may_resume(id) {
                self.resume_later(id)
            } else {
                self.resumption_refused(id, refusal.status)
            };
        }
        let answer = Message::parse(refusal.body.clone());
        let answer = answer.ok().filter(Message::is_error);
        if initialize {
            let before = Before::Refusal(Box::new(refusal.clone()));
            if self.probe_for_client(id, refusal.status, before) {
                return;
            }
        } else if self.other_era_refused(id, spoken, answer.as_ref(), refusal) {
            return;
        }
        if answer.is_none() && !resent && era::is_safe(&method) {
            let at = self.try_later(refusal);
            if let Some((at, request)) = at.zip(self.ledger.get_mut(id)) {
                return request.send_anew(at);
            }
        }
        if initialize {
            self.phase = Phase::Fresh;
        }
        self.refusal_stands(id, refusal);
    }

    /// What the upstream refused is refused.
    pub(super) fn refusal_stands(&mut self, id: &Id, refusal: &Refusal) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        let (post, resent) = (request.origin.post, request.resent);
        if matches!(refusal.status, 401 | 403) && self.refuse_post(post, refusal) {
            self.take(id);
            return;
        }
        let answer = Message::parse(refusal.body.clone());
        match answer.ok().filter(Message::is_error) {
            Some(answer) if self.is_modern() => self.deliver_error(id, &answer),
            Some(answer) => {
                self.release_post(post);
                if let Some(request) = self.take(id) {
                    self.deliver(
                        answer.text_with_id(request.message.id_text()),
                        About::Outcome(id.clone()),
                    );
                }
            }
            None => {
                let mut trouble = Trouble::from_refusal(refusal);
                if resent {
                    trouble.executed = Executed::Unknown;
                }
                self.fail(id, &trouble);
            }
        }
    }

    /// When to send again what an upstream in trouble refused, if that helps: where it says when, and soon, or where a
    /// gateway before it may just have lost it (5xx).
    pub(super) fn try_later(&mut self, refusal: &Refusal) -> Option<Instant> {
        let wait = match (refusal.status, refusal.retry_after) {
            (429 | 503, Some(seconds)) => Duration::from_secs(seconds),
            (500 | 502..=504, None) => Duration::ZERO,
            _ => return None,
        };
        let spread = self.jitter(Duration::from_millis(200));
        (wait <= LONGEST_WAIT).then(|| self.now + wait + spread)
    }

    pub(super) fn on_end(&mut self, id: CallId, call: Call<C>, end: End) {
        match call.purpose {
            Purpose::Request(request) => self.request_ended(&request, end),
            Purpose::Notice(mut notice) => {
                let wanted = self.leaving.is_none() || notice.message.kind() == Kind::Response;
                let again = (wanted && matches!(end, End::Unreached(_)))
                    .then(|| self.next_attempt(&mut notice.attempts))
                    .flatten();
                if let Some(at) = again {
                    let again = Again::Notice(notice, call.generation, id);
                    return self.again.push((at, again));
                }
                self.release_post(notice.origin.post);
                self.confirmed(id, false);
            }
            Purpose::Cancel(cancelled) => {
                if let Some(cancelled) = cancelled {
                    self.abort(cancelled);
                }
            }
            Purpose::OwnInitialize(origin, mut attempts, _) => {
                let again = (matches!(end, End::Unreached(_)) && self.leaving.is_none())
                    .then(|| self.next_attempt(&mut attempts))
                    .flatten();
                if let Some(at) = again {
                    return self.again.push((at, Again::Handshake(origin, attempts)));
                }
                self.own_initialize_failed(&trouble_of_handshake(&end), None);
            }
            Purpose::OwnInitialized => self.own_initialized_answered(id, false),
            Purpose::Restore => self.restored(call.generation),
            Purpose::Listen => self.listen_ended(&end),
            Purpose::Discover(discovery) => self.discover_ended(discovery, &end),
            Purpose::ListTools(_) => self.tools_unanswered(id),
            Purpose::Subscriptions => self.subscriptions_lost(id, &end),
            Purpose::Abandoned | Purpose::Farewell => {}
        }
    }

    /// When to try to connect again, if there is time left for it.
    pub(super) fn next_attempt(&mut self, attempts: &mut Attempts) -> Option<Instant> {
        let wait = self.jitter(Duration::from_millis(200));
        attempts.failures += 1;
        let since = *attempts.since.get_or_insert(self.now);
        let time_is_left = self.now.duration_since(since) + wait < CONNECT_WINDOW;
        time_is_left.then(|| self.now + wait * attempts.failures.min(4))
    }

    /// What found no connection is tried again.
    pub(super) fn on_again_due(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.again)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.again = later;
        let due: Vec<_> = due;
        for (_, again) in due {
            match again {
                Again::Handshake(origin, attempts) => self.initialize_again(origin, attempts),
                Again::Discover(discovery) => self.discover(discovery),
                Again::Notice(notice, generation, former) => {
                    self.notice_again(notice, generation, former);
                }
            }
        }
    }

    fn notice_again(&mut self, notice: Notice<C>, generation: u32, former: CallId) {
        let confirms = self.phase == Phase::Confirming(former);
        if !confirms && notice.message.kind() == Kind::Notification {
            // A handshake may have begun meanwhile: back behind the gate.
            return self.queue.push_front(Queued::Notice(notice));
        }
        let Some(session) = self.session_of(generation) else {
            return self.release_post(notice.origin.post);
        };
        self.count(Counted::Retry);
        let call = self.send_notice(&session, notice);
        if confirms {
            self.confirming(call);
        }
    }

    /// Whether the rest of a request's reply stream can be asked for.
    fn may_resume(&self, id: &Id) -> bool {
        self.ledger.get(id).is_some_and(|request| {
            let session = || self.session_of(request.generation);
            request.mark.is_some()
                && request.resumes < MAX_RESUMES
                && !request.oversized
                && session().is_some_and(|session| session.id.is_some())
        })
    }

    /// The exchange of a request ended, and the request has had no outcome.
    fn request_ended(&mut self, id: &Id, end: End) {
        let now = self.now;
        let wait = self.jitter(Duration::from_millis(200));
        let modern = self.is_modern();
        let resumable = !matches!(end, End::WrongType(_)) && self.may_resume(id);
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let post = request.origin.post.take();
        if resumable {
            self.release_post(post);
            return self.resume_later(id);
        }
        if matches!(end, End::Unreached(_)) && request.mark.is_none() {
            // This attempt did not leave; an earlier one may have.
            request.sent = request.resent;
            let mut attempts = request.attempts;
            let at = self.next_attempt(&mut attempts);
            if let Some((at, request)) = at.zip(self.ledger.get_mut(id)) {
                request.attempts = attempts;
                request.place = Place::RetryAt(at);
                // A refused connection says nothing of the credential: the hold runs on.
                request.origin.post = post;
                return;
            }
        }
        self.release_post(post);
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        // A modern reply stream that ends early is lost, and cannot be resumed (2026-07-28, "Key Changes").
        let ended_early = modern && end == End::Complete && !request.garbled && !request.oversized;
        let lost = ended_early || matches!(end, End::Lost(_) | End::Cut(_));
        if lost && !request.resent && era::is_safe(request.message.method()) {
            return request.send_anew(now + wait);
        }
        let mut trouble = if request.oversized {
            let text = "a message of the upstream's answer is larger than --max-message and was dropped; the request may have been executed";
            Trouble::new(Reason::MessageTooLarge, Executed::Unknown, text)
        } else if request.garbled && end == End::Complete {
            let text = "the upstream answered with something that is not a JSON-RPC message";
            Trouble::new(Reason::UpstreamInvalid, Executed::Unknown, text)
        } else {
            trouble_of(&end)
        };
        if request.sent {
            trouble.executed = Executed::Unknown;
        }
        if request.is_initialize() {
            self.phase = Phase::Fresh;
        }
        self.fail(id, &trouble);
    }

    fn resume_later(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        let wait = match request.retry {
            Some(retry) => retry,
            None => self.jitter(RESUME_WAIT),
        };
        let at = self.now + wait;
        if let Some(request) = self.ledger.get_mut(id) {
            request.place = Place::ResumeAt(at);
        }
    }

    /// The rest of a reply stream cannot be had: what is safe to run twice is asked for anew.
    fn resumption_refused(&mut self, id: &Id, status: u16) {
        let wait = self.jitter(Duration::from_millis(200));
        let again = self.ledger.get_mut(id).filter(|request| {
            let method = request.message.method();
            !request.resent && era::is_safe(method)
        });
        if let Some(request) = again {
            return request.send_anew(self.now + wait);
        }
        let text = format!(
            "the upstream's answer broke off, and it refuses to resume it ({status}); the request may have been executed"
        );
        let mut trouble = Trouble::new(Reason::UpstreamCut, Executed::Unknown, text);
        trouble.status = Some(status);
        self.fail(id, &trouble);
    }

    /// Asks the upstream for the rest of a reply stream (2025-03-26 and on, "Resumability and Redelivery").
    pub(super) fn resume(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        let Some(session) = self.session_of(request.generation) else {
            let text = "the upstream lost the session while the request was running; it may have been executed";
            let trouble = Trouble::new(Reason::SessionLost, Executed::Unknown, text);
            return self.fail(id, &trouble);
        };
        let verb = Verb::Get {
            last_event_id: request.mark.clone(),
        };
        let (context, credential) = (request.origin.context.clone(), request.origin.credential);
        self.count(Counted::Resume);
        let purpose = Purpose::Request(id.clone());
        let call = self.send_on(&session, purpose, verb, Vec::new(), context, credential);
        if let Some(request) = self.ledger.get_mut(id) {
            request.resumes += 1;
            request.place = Place::Sent(call);
        }
    }

    /// An exchange has been open for as long as it may.
    pub(super) fn on_call_due(&mut self, id: CallId) {
        if self.phase == Phase::Confirming(id) {
            // `notifications/initialized` held the gate for long enough; it may still be answered.
            self.limit(id, self.settings.request_timeout);
            let call = self.calls.get(&id);
            return match call.map(|call| &call.purpose) {
                Some(Purpose::OwnInitialized) => self.own_initialized_answered(id, true),
                _ => self.confirmed(id, true),
            };
        }
        if let Some(call) = self.calls.remove(&id) {
            self.emit(Output::Abort(id));
            self.modern.subscriptions.is_read(id);
            self.on_end(id, *call, End::Cut("it took too long".to_owned()));
        }
    }
}

/// What it means for requests that wait for a handshake: nothing of them was executed.
pub(super) fn trouble_of_handshake(end: &End) -> Trouble {
    let mut trouble = match end {
        End::Complete => Trouble::handshake("it was not answered"),
        End::Cut(why) => Trouble::handshake(&format!("the answer broke off ({why})")),
        End::Lost(why) => Trouble::handshake(&format!("the connection was lost ({why})")),
        End::Unreached(_) | End::WrongType(_) => trouble_of(end),
    };
    trouble.executed = Executed::No;
    trouble
}

fn trouble_of(end: &End) -> Trouble {
    match end {
        End::Complete => {
            let text = "the upstream ended its answer without a response to this request; it may have been executed";
            Trouble::new(Reason::UpstreamNoResponse, Executed::Unknown, text)
        }
        End::Cut(why) => {
            let text = format!(
                "the upstream's answer broke off ({why}); the request may have been executed"
            );
            Trouble::new(Reason::UpstreamCut, Executed::Unknown, text)
        }
        End::Unreached(why) => {
            let text = format!(
                "the upstream cannot be reached ({why}); the request was not sent. Is the server running?"
            );
            Trouble::new(Reason::UpstreamUnreachable, Executed::No, text)
        }
        End::Lost(why) => {
            let text = format!(
                "the connection to the upstream was lost before it answered ({why}); the request may have been executed"
            );
            Trouble::new(Reason::UpstreamLost, Executed::Unknown, text)
        }
        End::WrongType(what) => {
            let text = format!(
                "the upstream answered with {what}, not with JSON or an event stream. Is --upstream an MCP endpoint?"
            );
            Trouble::new(Reason::UpstreamInvalid, Executed::Unknown, text)
        }
    }
}
