//! What the upstream answers: heads and messages.
//!
//! An answer is recognised by its id, on whatever stream of its session it comes: servers that resume a stream, and
//! some that do not, answer elsewhere than where they were asked.

use std::time::Duration;

use bytes::Bytes;

use super::client::ferry_id;
use super::handshake::Phase;
use super::leave::ClientState;
use super::ledger::{Attempts, Place, Request};
use super::modern::discover::{Asker, Before, is_modern_result};
use super::vocabulary::{About, Body, CallId, Counted, Reply};
use super::{Asked, Bridge, MAX_ASKED, Purpose};
use crate::proto::jsonrpc::{self, Id, Kind, Message};

/// The longest wait that a stream's `retry` may ask for.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

impl<C: Clone> Bridge<C> {
    pub(super) fn on_reply(&mut self, id: CallId, reply: Reply) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.heard = self.now;
        match reply {
            Reply::Alive => {}
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
                    self.on_refused(id, *call, &refusal);
                }
            }
            Reply::End(end) => {
                if let Some(call) = self.calls.remove(&id) {
                    self.on_end(id, *call, end);
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
        let mut served = true;
        let post = match &mut call.purpose {
            Purpose::Request(request) => {
                served = false;
                self.ledger.get_mut(request).and_then(|request| {
                    request.attempts = Attempts::default();
                    request.origin.post.take()
                })
            }
            Purpose::Notice(notice) => notice.origin.post.take(),
            Purpose::Listen => return self.listen_began(id, body),
            Purpose::OwnInitialized => {
                self.own_initialized_answered(id, true);
                None
            }
            Purpose::Cancel(cancelled) => {
                if let Some(cancelled) = cancelled.take() {
                    self.abort(cancelled);
                }
                None
            }
            Purpose::Discover(discovery) => {
                served = false;
                match discovery.asker() {
                    Asker::Client(request) => {
                        let request = self.ledger.get_mut(request);
                        request.and_then(|request| request.origin.post.take())
                    }
                    Asker::Ferry(origin) => origin.post.take(),
                }
            }
            Purpose::OwnInitialize(..)
            | Purpose::Restore
            | Purpose::ListTools(_)
            | Purpose::Subscriptions
            | Purpose::Farewell
            | Purpose::Abandoned => {
                served = false;
                None
            }
        };
        self.prove(credential);
        self.release_post(post);
        self.confirmed(id, true);
        if served {
            self.let_linger(id);
        }
        self.listen_with(credential);
        self.subscribe_with(credential);
        self.listen_to_who_is_back();
        self.subscribe_to_who_is_back();
    }

    fn on_mark(&mut self, id: CallId, event_id: Option<Box<str>>, retry: Option<Duration>) {
        let retry = retry.map(|retry| retry.min(LONGEST_RETRY));
        match self.calls.get(&id).map(|call| &call.purpose) {
            Some(Purpose::Request(request)) => {
                let Some(request) = self.ledger.get_mut(request) else {
                    return;
                };
                if let Some(event_id) = event_id {
                    request.resumes = 0;
                    // An empty id takes back the last one (HTML, "Processing the stream").
                    request.mark = Some(event_id).filter(|id| !id.is_empty());
                }
                request.retry = retry.or(request.retry);
            }
            Some(Purpose::Listen) => self.listen_marked(event_id, retry),
            _ => {}
        }
    }

    fn on_oversized(&mut self, id: CallId) {
        self.count(Counted::InvalidUpstreamMessage);
        if let Some(request) = self.request_of(id) {
            request.oversized = true;
        }
    }

    /// The request that an exchange is for.
    fn request_of(&mut self, id: CallId) -> Option<&mut Request<C>> {
        match &self.calls.get(&id)?.purpose {
            Purpose::Request(request) => self.ledger.get_mut(request).map(Box::as_mut),
            _ => None,
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
            if let Some(request) = self.request_of(id) {
                request.garbled = true;
            }
            return;
        };
        match message.kind() {
            Kind::Response => self.on_answer(id, &message),
            // A modern upstream asks in its answers, never in a request (2026-07-28, "Receiving Messages").
            Kind::Request if self.speaks_modern(id) => self.count(Counted::InvalidUpstreamMessage),
            Kind::Notification if self.is_subscription(id) => self.subscription_told(id, &message),
            Kind::Request => self.on_upstream_request(id, &message),
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.on_upstream_cancel(id, &message)
            }
            Kind::Notification => self.deliver(message.text().clone(), self.about(id)),
        }
    }

    /// An answer: to the ferry's own handshake, or to the request whose id it names. An error without an id, in the
    /// exchange of one request, can only mean that request. What comes in an exchange that has served its purpose is
    /// nobody's answer: the client may have used the id again.
    fn on_answer(&mut self, id: CallId, answer: &Message) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let (generation, modern) = (call.generation, call.modern);
        let request = match &call.purpose {
            Purpose::OwnInitialize(_, _, own) => {
                if answer.id() != Some(own) && !(answer.id().is_none() && answer.is_error()) {
                    return self.count(Counted::LateAnswer);
                }
                let session = call.session.take();
                let ended = std::mem::replace(&mut call.purpose, Purpose::Abandoned);
                self.let_linger(id);
                if !answer.is_error() && !is_modern_result(answer) {
                    return self.own_initialize_answered(answer, session);
                }
                let Purpose::OwnInitialize(origin, ..) = ended else {
                    return;
                };
                let before = Before::Answer(Box::new(answer.clone()));
                return match self.probe_ourselves(origin, 200, before) {
                    Ok(()) => {}
                    Err(_) if answer.is_error() => self.own_initialize_refused(answer.text()),
                    Err(_) => self.own_initialize_answered(answer, session),
                };
            }
            Purpose::Restore => {
                self.let_linger(id);
                return self.restored(generation);
            }
            Purpose::Discover(_) => return self.discover_answered(id, answer),
            Purpose::ListTools(_) => return self.tools_answered(id, answer),
            Purpose::Subscriptions => return self.subscriptions_answered(id, answer),
            Purpose::Farewell | Purpose::Cancel(_) => return,
            Purpose::Abandoned => None,
            Purpose::Request(own) if answer.id().is_none() && answer.is_error() => {
                Some(own.clone())
            }
            Purpose::Request(own) if call.modern => {
                let own = own.clone();
                Some(own).filter(|own| self.is_wire_id(own, answer))
            }
            _ => answer.id().cloned(),
        };
        let waiting = |id: &Id| {
            let request = self.ledger.get(id)?;
            (request.sent && request.generation == generation).then_some(())
        };
        match request.filter(|id| waiting(id).is_some()) {
            Some(request) if modern => self.modern_answer(&request, answer, id),
            Some(request) => self.complete(&request, answer, id),
            None => self.count(Counted::LateAnswer),
        }
    }

    /// Whether this answers what the request is called upstream.
    fn is_wire_id(&self, id: &Id, answer: &Message) -> bool {
        let request = self.ledger.get(id);
        let wire =
            request.and_then(|request| request.wire_id.as_ref().or_else(|| request.message.id()));
        wire.is_some() && wire == answer.id()
    }

    fn speaks_modern(&self, call: CallId) -> bool {
        self.calls.get(&call).is_some_and(|call| call.modern)
    }

    fn is_subscription(&self, call: CallId) -> bool {
        let call = self.calls.get(&call);
        call.is_some_and(|call| matches!(call.purpose, Purpose::Subscriptions))
    }

    /// A request has its answer: its one outcome.
    fn complete(&mut self, id: &Id, answer: &Message, via: CallId) {
        let refused = (answer.is_error() || is_modern_result(answer))
            && self.ledger.get(id).is_some_and(|request| {
                request.is_initialize() && request.place == Place::Sent(via)
            });
        if refused {
            let before = Before::Answer(Box::new(answer.clone()));
            if self.probe_for_client(id, 200, before) {
                return self.let_linger(via);
            }
        }
        let Some(request) = self.take(id) else {
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
            text = self.downgraded(text, &request.message);
        }
        if answer.id_text() != request.message.id_text() {
            let Ok(answer) = Message::parse(text) else {
                return;
            };
            text = answer.text_with_id(request.message.id_text());
        }
        self.deliver(text, About::Outcome(id.clone()));
        // Since it was asked, another upstream may have become the one that tells of changes.
        self.adjust_subscriptions();
        let Some(own) = own else { return };
        if own == via {
            // Its end is at hand, and then the connection is free for the next request; some servers hold it open.
            self.let_linger(own);
        } else {
            self.abort(own);
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
        if self.session_of(generation).is_none() {
            // The session is over: nowhere to answer.
            return self.count(Counted::LateAnswer);
        }
        let refusal = match self.client_state() {
            ClientState::Gone => Some("the client has gone"),
            ClientState::Here if self.asked.len() >= MAX_ASKED => {
                Some("too many requests wait for this client's answer")
            }
            ClientState::Here => None,
        };
        if let Some(why) = refusal {
            return self.answer_upstream(generation, message.id_text(), why);
        }
        self.last_asked += 1;
        let number = self.last_asked;
        self.asked.insert(
            number,
            Asked::Upstream {
                id: message.id_text().into(),
                key,
                generation,
            },
        );
        self.deliver(message.text_with_id(&ferry_id(number)), self.about(id));
    }

    /// The upstream takes a request back: the client knows it under the ferry's id.
    fn on_upstream_cancel(&mut self, id: CallId, message: &Message) {
        let Some((span, json)) = message.param("requestId") else {
            return self.deliver(message.text().clone(), self.about(id));
        };
        let key = Id::from_json(json).zip(self.calls.get(&id).map(|call| call.generation));
        let number = key.and_then(|(key, generation)| {
            let same = |asked: &Asked| {
                matches!(asked, Asked::Upstream { key: own, generation: of, .. } if *own == key && *of == generation)
            };
            let found = self.asked.iter().find(|(_, asked)| same(asked));
            found.map(|(number, _)| *number)
        });
        match number {
            Some(number) => {
                self.asked.remove(&number);
                self.deliver(message.text_with(&span, &ferry_id(number)), self.about(id));
            }
            None => self.count(Counted::LateAnswer),
        }
    }
}
