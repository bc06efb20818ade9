//! What the upstream answers: heads, messages, refusals, ends; and the resumption of streams that ended early.
//!
//! An answer is recognised by its id, on whatever stream it comes. A stream that ends without the answer is resumed
//! where the upstream gave event ids (2025-11-25 closes streams early on purpose), otherwise its request ends in an
//! error; only methods that are safe to run twice are sent again by themselves.

use std::time::Duration;

use bytes::Bytes;

use super::client::ferry_id;
use super::handshake::Phase;
use super::leave::ClientState;
use super::ledger::Place;
use super::trouble::{Executed, Reason, Trouble};
use super::vocabulary::{Body, CallId, Counted, End, Refusal, Reply, Verb};
use super::{Asked, Bridge, Call, LINGER, MAX_ASKED, Purpose};
use crate::proto::era;
use crate::proto::jsonrpc::{self, Id, Kind, Message};

/// Resumptions in a row that bring nothing before the request is given up.
const MAX_RESUMES: u32 = 5;
/// How long to wait before a resumption when the stream did not say (2025-11-25 leaves it to the client).
const RESUME_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a stream's `retry` may ask for.
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// How long attempts to connect are repeated: long enough for an upstream that is being restarted.
const CONNECT_WINDOW: Duration = Duration::from_secs(3);

impl<C: Clone> Bridge<C> {
    pub(super) fn on_reply(&mut self, id: CallId, reply: Reply) {
        if !self.calls.contains_key(&id) {
            return;
        }
        match reply {
            Reply::Head { session, body, .. } => self.on_head(id, session, body),
            Reply::Mark { event_id, retry } => self.on_mark(id, event_id, retry),
            Reply::Message { text, event_id } => {
                if event_id.is_some() {
                    self.on_mark(id, event_id, None);
                }
                self.on_text(id, text);
            }
            Reply::Oversized => self.on_oversized(id),
            Reply::Refused(refusal) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.on_refused(id, call, &refusal);
                }
            }
            Reply::End(end) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.on_end(id, call, end);
                }
            }
        }
    }

    /// A 2xx: the credential is good, the POST need not be held, and what waited for acceptance goes on.
    fn on_head(&mut self, id: CallId, session: Option<Box<str>>, body: Body) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.session = session;
        let credential = call.credential;
        let post = match &call.purpose {
            Purpose::Request(request) => self.ledger.get_mut(request).and_then(|request| {
                request.first_failure = None;
                request.connects = 0;
                request.origin.post.take()
            }),
            Purpose::Notice(_, origin, _) => origin.post,
            Purpose::Listen => {
                self.listen_began(id, body);
                return;
            }
            Purpose::OwnInitialized => {
                call.deadline = None;
                self.own_initialized_answered(id, true);
                None
            }
            _ => None,
        };
        self.proven = Some(credential);
        self.release_post(post);
        self.confirmed(id, true);
    }

    fn on_mark(&mut self, id: CallId, event_id: Option<Box<str>>, retry: Option<Duration>) {
        let retry = retry.map(|retry| retry.min(LONGEST_RETRY));
        match self.calls.get(&id).map(|call| &call.purpose) {
            Some(Purpose::Request(request)) => {
                let Some(request) = self.ledger.get_mut(request) else {
                    return;
                };
                if event_id.is_some() {
                    request.resumes = 0;
                    request.mark = event_id;
                }
                request.retry = retry.or(request.retry);
            }
            Some(Purpose::Listen) => self.listen_marked(event_id, retry),
            _ => {}
        }
    }

    fn on_oversized(&mut self, id: CallId) {
        self.count(Counted::InvalidUpstreamMessage);
        if let Some(Call {
            purpose: Purpose::Request(request),
            ..
        }) = self.calls.get(&id)
        {
            if let Some(request) = self.ledger.get_mut(request) {
                request.oversized = true;
            }
        }
    }

    /// One JSON text: a message, or the array of them that answers a batch.
    fn on_text(&mut self, id: CallId, text: Bytes) {
        if !jsonrpc::is_array(&text) {
            return self.on_message(id, Message::parse(text).ok());
        }
        match jsonrpc::batch(&text) {
            Ok(texts) => texts
                .into_iter()
                .for_each(|text| self.on_message(id, Message::parse(text).ok())),
            Err(_) => self.on_message(id, None),
        }
    }

    fn on_message(&mut self, id: CallId, message: Option<Message>) {
        let Some(message) = message else {
            self.count(Counted::InvalidUpstreamMessage);
            if let Some(Call {
                purpose: Purpose::Request(request),
                ..
            }) = self.calls.get(&id)
            {
                if let Some(request) = self.ledger.get_mut(request) {
                    request.garbled = true;
                }
            }
            return;
        };
        match message.kind() {
            Kind::Response => self.on_answer(id, &message),
            Kind::Request => self.on_upstream_request(id, &message),
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.on_upstream_cancel(&message)
            }
            Kind::Notification => self.deliver(message.text().clone()),
        }
    }

    /// An answer: to the ferry's own handshake, or to the request whose id it names. An error without an id, in the
    /// exchange of one request, can only mean that request.
    fn on_answer(&mut self, id: CallId, answer: &Message) {
        let request = match self.calls.get(&id).map(|call| &call.purpose) {
            Some(Purpose::OwnInitialize) => {
                let Some(call) = self.calls.get_mut(&id) else {
                    return;
                };
                let session = call.session.take();
                call.purpose = Purpose::Abandoned;
                call.deadline = Some(self.now + LINGER);
                return self.own_initialize_answered(answer, session);
            }
            Some(Purpose::Restore | Purpose::Farewell | Purpose::Cancel(_)) => return,
            Some(Purpose::Request(own)) if answer.id().is_none() && answer.is_error() => {
                Some(own.clone())
            }
            _ => answer
                .id()
                .filter(|id| self.ledger.get(id).is_some_and(|request| request.sent))
                .cloned(),
        };
        match request {
            Some(request) => self.complete(&request, answer, id),
            None => self.count(Counted::LateAnswer),
        }
    }

    /// A request has its answer: its one outcome.
    fn complete(&mut self, id: &Id, answer: &Message, via: CallId) {
        let Some(request) = self.ledger.remove(id) else {
            return;
        };
        self.release_post(request.origin.post);
        let own = match request.place {
            Place::Sent(call) => Some(call),
            _ => None,
        };
        let mut text = answer.text().clone();
        if request.is_initialize() {
            let session = self
                .calls
                .get_mut(&via)
                .and_then(|call| call.session.take());
            if answer.is_error() {
                self.phase = Phase::Fresh;
            } else {
                text = self.initialized(answer, session);
            }
        } else if !answer.is_error() {
            self.remember(&request.message);
        }
        if answer.id_text() != request.message.id_text() {
            let Ok(answer) = Message::parse(text) else {
                return;
            };
            text = answer.text_with_id(request.message.id_text());
        }
        self.deliver(text);
        let Some(own) = own else { return };
        if own != via || request.mark.is_some() {
            // Answered elsewhere, or on a stream that some servers hold open after the answer.
            self.abort(own);
        } else if let Some(call) = self.calls.get_mut(&own) {
            call.purpose = Purpose::Abandoned;
            call.deadline = Some(self.now + LINGER);
        }
    }

    /// The upstream asks the client: under an id that can be no id of the client's own.
    fn on_upstream_request(&mut self, id: CallId, message: &Message) {
        let Some((key, generation)) = message
            .id()
            .cloned()
            .zip(self.calls.get(&id).map(|call| call.generation))
        else {
            return;
        };
        let refusal = match self.client_state() {
            ClientState::Gone => Some("the client has gone"),
            ClientState::Here if self.asked.len() >= MAX_ASKED => {
                Some("too many requests wait for this client's answer")
            }
            ClientState::Here => None,
        };
        if let Some(why) = refusal {
            return self.answer_upstream(message.id_text(), why);
        }
        self.last_asked += 1;
        let number = self.last_asked;
        self.asked.insert(
            number,
            Asked {
                id: message.id_text().into(),
                key,
                generation,
            },
        );
        self.deliver(message.text_with_id(&ferry_id(number)));
    }

    /// The upstream takes a request back: the client knows it under the ferry's id.
    fn on_upstream_cancel(&mut self, message: &Message) {
        let Some((span, json)) = message.param("requestId") else {
            return self.deliver(message.text().clone());
        };
        let key = Id::from_json(json);
        let number = self
            .asked
            .iter()
            .find(|(_, asked)| Some(&asked.key) == key.as_ref())
            .map(|(number, _)| *number);
        match number {
            Some(number) => {
                self.asked.remove(&number);
                self.deliver(message.text_with(&span, &ferry_id(number)));
            }
            None => self.count(Counted::LateAnswer),
        }
    }

    fn on_refused(&mut self, id: CallId, call: Call<C>, refusal: &Refusal) {
        let challenged = !refusal.challenges.is_empty();
        let lost =
            call.with_session && era::is_unknown_session(refusal.status, challenged, &refusal.body);
        if !lost && matches!(refusal.status, 401 | 403) && self.proven == Some(call.credential) {
            self.proven = None;
        }
        match call.purpose {
            Purpose::Request(request) => {
                self.request_refused(&request, call.generation, refusal, lost)
            }
            Purpose::Notice(message, origin, replayed) => {
                if lost {
                    self.confirmed(id, false);
                    return self.replay_notice(message, origin, replayed, call.generation);
                }
                if !(matches!(refusal.status, 401 | 403) && self.refuse_post(origin.post, refusal))
                {
                    self.release_post(origin.post);
                }
                self.confirmed(id, false);
            }
            Purpose::Cancel(cancelled) => {
                if let Some(cancelled) = cancelled {
                    self.abort(cancelled);
                }
            }
            Purpose::OwnInitialize => {
                let mut trouble = Trouble::from_refusal(refusal);
                trouble.executed = Executed::No;
                let auth = matches!(refusal.status, 401 | 403);
                self.own_initialize_failed(&trouble, auth.then_some(refusal));
            }
            Purpose::OwnInitialized => self.own_initialized_answered(id, false),
            Purpose::Restore => self.restored(),
            Purpose::Listen => self.listen_refused(refusal, lost, call.generation),
            Purpose::Abandoned | Purpose::Farewell => {}
        }
    }

    fn request_refused(&mut self, id: &Id, generation: u32, refusal: &Refusal, lost: bool) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let post = request.origin.post;
        let (initialize, resuming) = (request.is_initialize(), request.mark.is_some());
        if lost && resuming {
            // It ran on the session that is gone; whether to its end, nobody can tell.
            let text = "the upstream lost the session while the request was running; it may have been executed";
            self.lose_session(generation);
            return self.fail(
                id,
                &Trouble::new(Reason::SessionLost, Executed::Unknown, text),
            );
        }
        if lost {
            return self.replay(id, generation);
        }
        if initialize {
            self.phase = Phase::Fresh;
        }
        if matches!(refusal.status, 401 | 403) && self.refuse_post(post, refusal) {
            self.ledger.remove(id);
            return;
        }
        match Message::parse(refusal.body.clone()) {
            Ok(answer) if answer.is_error() && !resuming => {
                self.release_post(post);
                if let Some(request) = self.ledger.remove(id) {
                    self.deliver(answer.text_with_id(request.message.id_text()));
                }
            }
            _ => {
                let mut trouble = Trouble::from_refusal(refusal);
                if resuming {
                    trouble.executed = Executed::Unknown;
                }
                self.fail(id, &trouble);
            }
        }
    }

    fn on_end(&mut self, id: CallId, call: Call<C>, end: End) {
        match call.purpose {
            Purpose::Request(request) => self.request_ended(&request, end),
            Purpose::Notice(_, origin, _) => {
                self.release_post(origin.post);
                self.confirmed(id, false);
            }
            Purpose::Cancel(cancelled) => {
                if let Some(cancelled) = cancelled {
                    self.abort(cancelled);
                }
            }
            Purpose::OwnInitialize => {
                let mut trouble = trouble_of(&end);
                trouble.executed = Executed::No;
                self.own_initialize_failed(&trouble, None);
            }
            Purpose::OwnInitialized => self.own_initialized_answered(id, false),
            Purpose::Restore => self.restored(),
            Purpose::Listen => self.listen_ended(&end),
            Purpose::Abandoned | Purpose::Farewell => {}
        }
    }

    /// The exchange of a request ended, and the request has had no outcome.
    fn request_ended(&mut self, id: &Id, end: End) {
        let now = self.now;
        let wait = self.jitter(Duration::from_millis(200));
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let post = request.origin.post.take();
        match &end {
            End::Unreached(_) => {
                if request.mark.is_some()
                    && self.session.id.is_some()
                    && request.resumes < MAX_RESUMES
                {
                    return self.resume_later(id);
                }
                // This attempt did not leave; an earlier one may have.
                request.sent = request.resent || request.mark.is_some();
                request.connects += 1;
                let since = *request.first_failure.get_or_insert(now);
                if now.duration_since(since) + wait < CONNECT_WINDOW && request.mark.is_none() {
                    request.place = Place::RetryAt(now + wait * request.connects.min(4));
                    // A refused connection says nothing of the credential: the hold runs on.
                    request.origin.post = post;
                    return;
                }
            }
            End::Complete | End::Cut(_) => {
                if request.mark.is_some()
                    && self.session.id.is_some()
                    && request.resumes < MAX_RESUMES
                    && !request.oversized
                {
                    self.release_post(post);
                    return self.resume_later(id);
                }
            }
            End::Lost(_) | End::WrongType(_) => {}
        }
        self.release_post(post);
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        let lost = matches!(end, End::Lost(_) | End::Cut(_));
        if lost && !request.resent && era::is_safe(request.message.method()) {
            request.resent = true;
            request.place = Place::RetryAt(now + wait);
            return;
        }
        let mut trouble = if request.oversized {
            let text = "the upstream's answer is larger than --max-message; the request was executed, its result is lost";
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

    /// Asks the upstream for the rest of a reply stream (2025-03-26 and on, "Resumability and Redelivery").
    pub(super) fn resume(&mut self, id: &Id) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        request.resumes += 1;
        let verb = Verb::Get {
            last_event_id: request.mark.clone(),
        };
        let (context, credential) = (request.origin.context.clone(), request.origin.credential);
        self.count(Counted::Resume);
        let call = self.send(Purpose::Request(id.clone()), verb, context, credential);
        if let Some(request) = self.ledger.get_mut(id) {
            request.place = Place::Sent(call);
        }
    }

    /// An exchange has been open for as long as it may.
    pub(super) fn on_call_due(&mut self, id: CallId) {
        match self.calls.get(&id).map(|call| &call.purpose) {
            Some(Purpose::Notice(..)) => {
                // `notifications/initialized` held the gate for long enough; it may still be answered.
                if let Some(call) = self.calls.get_mut(&id) {
                    call.deadline = None;
                }
                self.confirmed(id, true);
            }
            Some(_) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.outputs.push_back(super::Output::Abort(id));
                    self.on_end(id, call, End::Cut("it took too long".to_owned()));
                }
            }
            None => {}
        }
    }
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
