//! What the client posts: admission to the ledger, the hold for the upstream's status, cancels.
//!
//! A POST is answered 202 at once, except while its credential is unproven on this connection or was refused last:
//! then it waits for the upstream's status, so that a 401 or 403 reaches the client as HTTP. Every other failure of
//! the upstream reaches it on the stream, because one bad status ends the session of several clients.

use std::collections::BTreeSet;

use super::handshake::{Phase, Session};
use super::leave::ClientState;
use super::ledger::{Attempts, Origin, Place, Request};
use super::trouble::{Executed, Reason, Trouble};
use super::vocabulary::{About, Answer, CallId, Counted, Output, PostId, Posted, Verb};
use super::{Asked, Bridge, Call, Held, LINGER, MAX_NOTICES, Notice, Purpose, Queued};
use crate::proto::era;
use crate::proto::jsonrpc::{self, Id, Kind, Message};

impl<C: Clone> Bridge<C> {
    pub(super) fn on_posted(&mut self, posted: Posted<C>) {
        if self.client_state() == ClientState::Gone {
            return self.emit(Output::Answer(posted.post, Answer::Gone));
        }
        if let Some(answer) = self.objection(&posted) {
            return self.emit(Output::Answer(posted.post, answer));
        }
        let Posted {
            post,
            messages,
            batch: _,
            credential,
            version,
            context,
        } = posted;
        if self.settings.version_hint.is_none() {
            self.settings.version_hint = version;
        }
        self.latest = Some((context.clone(), credential));
        let hold = self.settings.hold_proven || self.proven != Some(credential);
        if hold {
            let initialize = messages
                .iter()
                .any(|message| message.method() == "initialize");
            let time = if initialize {
                self.settings.hold_initialize
            } else {
                self.settings.hold
            };
            self.held.insert(
                post,
                Held {
                    until: self.now + time,
                    credential,
                },
            );
        } else {
            self.emit(Output::Answer(post, Answer::Accepted));
        }
        let mut waits = false;
        for message in messages {
            let origin = Origin {
                context: context.clone(),
                credential,
                post: hold.then_some(post),
            };
            waits |= self.admit(message, origin);
        }
        if hold && !waits {
            self.answer_held(post, Answer::Accepted);
        }
    }

    /// What is wrong with a POST as a whole, so that none of it is taken.
    fn objection(&self, posted: &Posted<C>) -> Option<Answer> {
        let invalid = |text: &str| Some(Answer::Invalid(text.to_owned()));
        if posted.batch {
            if posted.messages.is_empty() {
                return invalid("the batch is empty");
            }
            if self
                .remembered
                .client_version
                .as_deref()
                .is_some_and(|version| !era::allows_batches(version))
            {
                return invalid(
                    "the protocol revision this client negotiated has no batches: post one message at a time",
                );
            }
            if posted
                .messages
                .iter()
                .any(|message| message.method() == "initialize")
            {
                return invalid("\"initialize\" must not be part of a batch");
            }
        }
        let mut fresh = BTreeSet::new();
        for message in posted
            .messages
            .iter()
            .filter(|message| message.kind() == Kind::Request)
        {
            let id = message.id()?;
            let text = message.id_text();
            if self.ledger.contains_key(id) {
                return Some(Answer::Invalid(format!(
                    "a request with id {text} is already in flight on this connection"
                )));
            }
            if !fresh.insert(id) {
                let text = format!("the batch has two requests with id {text}");
                return Some(Answer::Invalid(text));
            }
        }
        let fresh = posted
            .messages
            .iter()
            .filter(|message| message.kind() != Kind::Request)
            .count();
        (fresh > 0 && self.notices() + fresh > MAX_NOTICES).then_some(Answer::Busy)
    }

    /// How many notifications and answers of the client the upstream has not taken yet.
    fn notices(&self) -> usize {
        let queued = |queued: &&Queued<C>| matches!(queued, Queued::Notice(_));
        let under_way =
            |call: &&Call<C>| matches!(call.purpose, Purpose::Notice(_) | Purpose::Cancel(_));
        self.queue.iter().filter(queued).count()
            + self
                .calls
                .values()
                .map(Box::as_ref)
                .filter(under_way)
                .count()
            + self.again.len()
    }

    /// Takes in one message. Says whether its POST has a status of the upstream to wait for.
    fn admit(&mut self, message: Message, origin: Origin<C>) -> bool {
        match message.kind() {
            Kind::Request => self.admit_request(message, origin),
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.on_cancel(message, origin)
            }
            Kind::Notification => {
                self.queue
                    .push_back(Queued::Notice(Notice::new(message, origin)));
                true
            }
            Kind::Response => self.on_client_answer(&message, origin),
        }
    }

    fn admit_request(&mut self, message: Message, origin: Origin<C>) -> bool {
        let Some(id) = message.id().cloned() else {
            return false;
        };
        if message.method() == "server/discover" {
            // New clients probe the old transport with it; the refusal is what sends them on to `initialize`.
            let text = "mcp-ferry: this is the HTTP+SSE transport (2024-11-05), which begins with initialize";
            let code = era::METHOD_NOT_FOUND;
            self.deliver(
                jsonrpc::error_response(message.id_text(), code, text, None),
                About::Outcome(id),
            );
            return false;
        }
        let refusal = if self.draining {
            let text =
                "the proxy is shutting down and takes no new requests; reconnect and send it again";
            Some(Trouble::new(Reason::ShuttingDown, Executed::No, text))
        } else if self.ledger.len() >= self.settings.max_in_flight {
            let text = format!(
                "{} requests are in flight on this connection already; wait for one to end",
                self.ledger.len()
            );
            Some(Trouble::new(Reason::TooManyInFlight, Executed::No, text))
        } else {
            None
        };
        if let Some(trouble) = refusal {
            self.count(Counted::FerryError);
            self.deliver(trouble.response(message.id_text()), About::Outcome(id));
            return false;
        }
        let deadline = self.now + self.settings.request_timeout;
        self.ledger.insert(
            id.clone(),
            Box::new(Request::new(message, origin, deadline)),
        );
        self.queue.push_back(Queued::Request(id));
        true
    }

    /// The client answers a request of the upstream: back under the upstream's own id, on the session that asked. It
    /// does not queue: the upstream may wait for it before it lets anything else go on.
    fn on_client_answer(&mut self, message: &Message, origin: Origin<C>) -> bool {
        let number = match message.id() {
            Some(Id::String(id)) => ferry_number(id),
            _ => None,
        };
        let asked = number.and_then(|number| Some((number, self.asked.remove(&number)?)));
        let asked = match asked {
            Some((number, Asked::Round(call))) => {
                self.round_answered(&call, number, message, origin);
                return false;
            }
            Some((_, Asked::Upstream { id, generation, .. })) => {
                self.session_of(generation).zip(Some(id))
            }
            None => None,
        };
        let Some((session, id)) = asked else {
            self.count(Counted::StrayClientMessage);
            return false;
        };
        let Ok(message) = Message::parse(message.text_with_id(&id)) else {
            return false;
        };
        let notice = Notice {
            replayed: true,
            ..Notice::new(message, origin)
        };
        self.send_notice(&session, notice);
        true
    }

    /// Sends a notification or an answer upstream.
    pub(super) fn send_notice(&mut self, session: &Session, notice: Notice<C>) -> CallId {
        let (context, credential) = (notice.origin.context.clone(), notice.origin.credential);
        // An answer goes to the session that asked, which may be one of an upstream that was replaced since.
        let modern = session.version.as_deref() == Some(era::MODERN_VERSION);
        let modern = modern.then_some(&notice.message);
        let parts = modern.and_then(|message| self.modern_notice_parts(message));
        let (text, mirrored) = parts.unwrap_or_else(|| (notice.message.text().clone(), Vec::new()));
        let (purpose, verb) = (Purpose::Notice(notice), Verb::Post(text));
        let call = self.send_on(session, purpose, verb, mirrored, context, credential);
        self.limit(call, self.settings.request_timeout);
        call
    }

    /// The client cancels: its request ends here, and the upstream is told without queueing behind anything.
    fn on_cancel(&mut self, message: Message, mut origin: Origin<C>) -> bool {
        let Some(id) = message
            .param("requestId")
            .and_then(|(_, json)| Id::from_json(json))
        else {
            // 2025-11-25 cancels tasks by other members; that is the upstream's to judge.
            self.queue
                .push_back(Queued::Notice(Notice::new(message, origin)));
            return true;
        };
        let cancellable = self
            .ledger
            .get(&id)
            .is_some_and(|request| !request.is_initialize());
        let Some(request) = cancellable.then(|| self.take(&id)).flatten() else {
            self.count(Counted::StrayClientMessage);
            return false;
        };
        self.release_post(request.origin.post);
        let call = match request.place {
            Place::Sent(call) => Some(call),
            _ => None,
        };
        if let Some(call) = call.and_then(|call| self.calls.get_mut(&call)) {
            call.purpose = Purpose::Abandoned;
        }
        // A session that is gone took the request with it. A modern upstream has none: closing the exchange is the cancel
        // (2026-07-28, "Cancellation").
        let session = self
            .session_of(request.generation)
            .filter(|session| request.sent && !session.is_modern());
        let Some(session) = session else {
            if let Some(call) = call {
                self.abort(call);
            }
            return false;
        };
        let post = origin.post.take();
        let verb = Verb::Post(message.text().clone());
        let purpose = Purpose::Cancel(call);
        let (context, credential) = (origin.context, origin.credential);
        let cancel = self.send_on(&session, purpose, verb, Vec::new(), context, credential);
        self.limit(cancel, LINGER);
        // Without a session a cancelled POST is only reached by dropping it; with one the notification must come first.
        if let Some(call) = call.filter(|_| session.id.is_none()) {
            self.abort(call);
        }
        self.release_post(post);
        true
    }

    /// A request's time has come: to be sent again, to be resumed, or to be given up.
    pub(super) fn on_request_due(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        if request.deadline <= self.now {
            let executed = if request.sent {
                Executed::Unknown
            } else {
                Executed::No
            };
            let seconds = self.settings.request_timeout.as_secs();
            let text = format!(
                "no answer within {seconds} s (--request-timeout); the request was given up"
            );
            // One that still waits behind another handshake has no part in it.
            let handshake = request.is_initialize() && request.place != Place::Queued;
            self.give_up(
                id,
                &Trouble::new(Reason::Timeout, executed, text),
                handshake,
            );
            return;
        }
        match request.place {
            Place::RetryAt(at) if at <= self.now => {
                let initialize = request.is_initialize();
                self.count(Counted::Retry);
                if initialize {
                    self.begin_handshake();
                }
                if initialize || self.phase == Phase::Open {
                    return self.send_request(id);
                }
                // A handshake began meanwhile: back behind the gate.
                if let Some(request) = self.ledger.get_mut(id) {
                    request.place = Place::Queued;
                }
                self.queue.push_front(Queued::Request(id.clone()));
            }
            Place::ResumeAt(at) if at <= self.now => self.resume(id),
            _ => {}
        }
    }

    /// The requests whose exchanges have been silent for too long.
    pub(super) fn silent_requests(&self) -> impl Iterator<Item = &Id> {
        let limit = self.settings.request_idle_timeout;
        self.calls.values().filter_map(move |call| {
            let silent = call.silent_at(limit).is_some_and(|at| at <= self.now);
            match &call.purpose {
                Purpose::Request(id) if silent => Some(id),
                _ => None,
            }
        })
    }

    /// The upstream has sent nothing for a request for too long.
    pub(super) fn on_request_silent(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        let initialize = request.is_initialize();
        let seconds = self.settings.request_idle_timeout.as_secs();
        let text = format!(
            "the upstream has sent nothing for {seconds} s (--request-idle-timeout); the request was given up"
        );
        let trouble = Trouble::new(Reason::Timeout, Executed::Unknown, text);
        self.give_up(id, &trouble, initialize);
    }

    /// A request that took too long ends in an error, and the upstream is told that nobody waits.
    fn give_up(&mut self, id: &Id, trouble: &Trouble, handshake: bool) {
        self.send_cancelled(id, "timeout");
        self.fail(id, trouble);
        if handshake {
            self.phase = Phase::Fresh;
        }
    }

    /// Tells the upstream that a request is not waited for any more, where it may be running. `initialize` may not be
    /// cancelled; without a session, dropping the exchange is all that reaches the upstream.
    pub(super) fn send_cancelled(&mut self, id: &Id, reason: &str) {
        let Some(request) = self
            .ledger
            .get(id)
            .filter(|request| request.sent && !request.is_initialize())
        else {
            return;
        };
        let Some(session) = self
            .session_of(request.generation)
            .filter(|session| session.id.is_some())
        else {
            return;
        };
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{},"reason":"{reason}"}}}}"#,
            request.message.id_text()
        );
        let origin = request.origin.clone();
        let verb = Verb::Post(text.into());
        self.send_farewell(&session, verb, origin.context, origin.credential);
    }

    /// Ends the hold of a POST with what the upstream said of it.
    pub(super) fn refuse_post(&mut self, post: Option<PostId>, refusal: &super::Refusal) -> bool {
        let Some(post) = post.filter(|post| self.held.contains_key(post)) else {
            return false;
        };
        self.answer_held(post, Answer::Refused(Box::new(refusal.clone())));
        true
    }
}

impl<C> Notice<C> {
    pub(super) fn new(message: Message, origin: Origin<C>) -> Self {
        Self {
            message,
            origin,
            attempts: Attempts::default(),
            replayed: false,
        }
    }
}

/// The id under which the client sees the upstream's request number `number`.
pub(super) fn ferry_id(number: u64) -> String {
    format!("\"ferry:{number}\"")
}

fn ferry_number(id: &str) -> Option<u64> {
    id.strip_prefix("ferry:")?.parse().ok()
}
