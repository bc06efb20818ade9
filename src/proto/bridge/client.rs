//! What the client posts: admission to the ledger, the hold for the upstream's status, cancels.
//!
//! A POST is answered 202 at once, except while its credential is unproven on this connection or was refused last:
//! then it waits for the upstream's status, so that a 401 or 403 reaches the client as HTTP. Every other failure of
//! the upstream reaches it on the stream, because one bad status ends the session of several clients.

use std::collections::HashSet;
use std::time::Instant;

use super::handshake::Phase;
use super::leave::ClientState;
use super::ledger::{Origin, Place, Request};
use super::trouble::{Executed, Reason, Trouble};
use super::vocabulary::{Answer, Counted, Output, PostId, Posted, Verb};
use super::{Bridge, Held, MAX_QUEUED_NOTICES, Purpose, Queued};
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
        let hold = self.proven != Some(credential);
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
        let mut fresh = HashSet::new();
        for message in posted
            .messages
            .iter()
            .filter(|message| message.kind() == Kind::Request)
        {
            let id = message.id()?;
            if self.ledger.contains_key(id) || !fresh.insert(id) {
                return Some(Answer::Invalid(format!(
                    "a request with id {} is already in flight on this connection",
                    message.id_text()
                )));
            }
        }
        let notices = self
            .queue
            .iter()
            .filter(|queued| matches!(queued, Queued::Notice(..)))
            .count();
        (notices + posted.messages.len() > MAX_QUEUED_NOTICES + self.settings.max_in_flight)
            .then_some(Answer::Busy)
    }

    /// Takes in one message. Says whether its POST has a status of the upstream to wait for.
    fn admit(&mut self, message: Message, origin: Origin<C>) -> bool {
        match message.kind() {
            Kind::Request => self.admit_request(message, origin),
            Kind::Notification if message.method() == "notifications/cancelled" => {
                self.on_cancel(message, origin)
            }
            Kind::Notification => {
                self.queue.push_back(Queued::Notice(message, origin, false));
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
            self.deliver(jsonrpc::error_response(
                message.id_text(),
                era::METHOD_NOT_FOUND,
                text,
                None,
            ));
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
            self.deliver(trouble.response(message.id_text()));
            return false;
        }
        let deadline = self.now + self.settings.request_timeout;
        self.ledger
            .insert(id.clone(), Request::new(message, origin, deadline));
        self.queue.push_back(Queued::Request(id));
        true
    }

    /// The client answers a request of the upstream: back under the upstream's own id.
    fn on_client_answer(&mut self, message: &Message, origin: Origin<C>) -> bool {
        let asked = match message.id() {
            Some(Id::String(id)) => ferry_number(id).and_then(|number| self.asked.remove(&number)),
            _ => None,
        };
        let Some(asked) = asked.filter(|asked| asked.generation == self.session.generation) else {
            self.count(Counted::StrayClientMessage);
            return false;
        };
        let Ok(message) = Message::parse(message.text_with_id(&asked.id)) else {
            return false;
        };
        self.queue.push_back(Queued::Notice(message, origin, false));
        true
    }

    /// The client cancels: its request ends here, and the upstream is told without queueing behind anything.
    fn on_cancel(&mut self, message: Message, mut origin: Origin<C>) -> bool {
        let Some(id) = message
            .param("requestId")
            .and_then(|(_, json)| Id::from_json(json))
        else {
            // 2025-11-25 cancels tasks by other members; that is the upstream's to judge.
            self.queue.push_back(Queued::Notice(message, origin, false));
            return true;
        };
        let cancellable = self
            .ledger
            .get(&id)
            .is_some_and(|request| !request.is_initialize());
        let Some(request) = cancellable.then(|| self.ledger.remove(&id)).flatten() else {
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
        if !request.sent {
            if let Some(call) = call {
                self.abort(call);
            }
            return false;
        }
        // Behind a handshake there is no session to send it on, and the old one is gone with the request.
        if !matches!(
            self.phase,
            Phase::Open | Phase::Confirming(_) | Phase::Restoring(_)
        ) {
            if let Some(call) = call {
                self.abort(call);
            }
            return false;
        }
        let post = origin.post.take();
        let Origin {
            context,
            credential,
            ..
        } = origin;
        let verb = Verb::Post(message.text().clone());
        let cancel = self.send(Purpose::Cancel(call), verb, context, credential);
        // Without a session a cancelled POST is only reached by dropping it; with one the notification must come first.
        if self.session.id.is_none() {
            if let Some(call) = call {
                self.abort(call);
            }
        }
        if let Some(cancel) = self.calls.get_mut(&cancel) {
            cancel.deadline = Some(self.now + super::LINGER);
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
            if request.sent && !request.is_initialize() && matches!(self.phase, Phase::Open) {
                let params = format!(
                    r#"{{"requestId":{},"reason":"timeout"}}"#,
                    request.message.id_text()
                );
                let origin = request.origin.clone();
                self.send_cancelled(&params, origin.context, origin.credential);
            }
            let initialize = self.ledger.get(id).is_some_and(Request::is_initialize);
            self.fail(id, &Trouble::new(Reason::Timeout, executed, text));
            if initialize {
                self.phase = Phase::Fresh;
            }
            return;
        }
        match request.place {
            Place::RetryAt(at) if at <= self.now => {
                self.count(Counted::Retry);
                self.send_request(id);
            }
            Place::ResumeAt(at) if at <= self.now => self.resume(id),
            _ => {}
        }
    }

    /// Tells the upstream that a request is not waited for any more.
    pub(super) fn send_cancelled(&mut self, params: &str, context: C, credential: u64) {
        let text =
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{params}}}"#);
        let call = self.send(
            Purpose::Farewell,
            Verb::Post(text.into()),
            context,
            credential,
        );
        let deadline: Instant = self.now + super::LINGER;
        if let Some(call) = self.calls.get_mut(&call) {
            call.deadline = Some(deadline);
        }
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

/// The id under which the client sees the upstream's request number `number`.
pub(super) fn ferry_id(number: u64) -> String {
    format!("\"ferry:{number}\"")
}

fn ferry_number(id: &str) -> Option<u64> {
    id.strip_prefix("ferry:")?.parse().ok()
}
