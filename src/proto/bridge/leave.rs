//! The end of a connection: drain, farewell, DELETE.
//!
//! When the client is gone, the upstream is told everything that it would otherwise wait for: requests of its own get
//! an error (I6), requests of the client are cancelled, their exchanges are dropped, and then the session is ended.
//! A Go server's DELETE waits for its calls, so cancels go first; and nothing here may take longer than
//! [`super::Settings::leave_timeout`].

use std::time::Instant;

use super::handshake::Session;
use super::ledger::{Attempts, Place};
use super::trouble::{Executed, Reason, Trouble};
use super::vocabulary::{CallId, Output, Verb};
use super::{Asked, Bridge, Call, LINGER, Purpose};
use crate::proto::era;
use crate::proto::jsonrpc::{self, Id, Kind};

/// How far the farewell is.
#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) deadline: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A handshake is under way: the session that it brings must be ended too.
    Handshake(CallId),
    /// Errors and cancels are on their way.
    Words,
    /// The session is being ended.
    Delete,
}

/// Whether there is anybody to deliver to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    Here,
    Gone,
}

impl<C: Clone> Bridge<C> {
    pub(super) fn client_state(&self) -> ClientState {
        if self.leaving.is_some() || self.finished {
            ClientState::Gone
        } else {
            ClientState::Here
        }
    }

    /// The time to finish is over: what is left ends in errors, then the connection ends.
    pub(super) fn expire(&mut self) {
        let (reason, why, text) = if self.draining {
            let text =
                "the proxy was shut down before the request was answered; reconnect and try again";
            (Reason::ShuttingDown, "shutting down", text)
        } else {
            let text = "the stream reached its age (--max-stream-age) before the request was answered; reconnect and try again";
            (Reason::StreamAge, "the stream ended", text)
        };
        let ids: Vec<Id> = self.ledger.keys().cloned().collect();
        for id in ids {
            let Some(request) = self.ledger.get(&id) else {
                continue;
            };
            let executed = if request.sent {
                Executed::Unknown
            } else {
                Executed::No
            };
            self.send_cancelled(&id, why);
            self.fail(&id, &Trouble::new(reason, executed, text));
        }
        self.leave();
    }

    /// Ends the client's stream and begins the farewell.
    pub(super) fn leave(&mut self) {
        if self.leaving.is_some() || self.finished {
            return;
        }
        for post in std::mem::take(&mut self.held).into_keys() {
            self.emit(Output::Answer(post, super::Answer::Accepted));
        }
        self.emit(Output::EndStream);
        self.stop_discovering();
        let call = self.handshake_call();
        let handshake = call.filter(|call| self.calls.contains_key(call));
        self.queue.clear();
        self.again.retain(|(_, again)| again.is_answer());
        self.close_listen();
        self.close_subscriptions();
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Upstream { id, generation, .. } = asked {
                self.answer_upstream(generation, &id, "the client has gone");
            }
        }
        let ids: Vec<Id> = self.ledger.keys().cloned().collect();
        for id in &ids {
            self.send_cancelled(id, "client disconnected");
        }
        for request in std::mem::take(&mut self.ledger).into_values() {
            let Place::Sent(call) = request.place else {
                continue;
            };
            if Some(call) == handshake {
                if let Some((call, id)) = self.calls.get_mut(&call).zip(request.message.id()) {
                    let attempts = Attempts::default();
                    call.purpose = Purpose::OwnInitialize(request.origin, attempts, id.clone());
                }
                continue;
            }
            let session = self.session_of(request.generation);
            if session.is_some_and(|session| session.id.is_some()) {
                // Its answer is dropped; its exchange is, once the cancel went ahead.
                if let Some(call) = self.calls.get_mut(&call) {
                    call.purpose = Purpose::Abandoned;
                }
            } else {
                self.abort(call);
            }
        }
        let deadline = self.now + self.settings.leave_timeout;
        self.leaving = Some(Leaving {
            deadline,
            stage: Stage::Words,
        });
        if let Some(call) = handshake {
            self.set_stage(Stage::Handshake(call));
        }
    }

    /// What `server/discover` brings is for the client, and no session is among it.
    fn stop_discovering(&mut self) {
        let calls = self.calls.iter();
        let discovers = calls.filter(|(_, call)| matches!(call.purpose, Purpose::Discover(_)));
        for call in discovers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.abort(call);
        }
    }

    /// Moves the farewell on when what it waits for is settled.
    pub(super) fn advance_leaving(&mut self) {
        let Some(leaving) = &self.leaving else { return };
        match leaving.stage {
            Stage::Handshake(call) => {
                let open = matches!(
                    self.calls.get(&call).map(Box::as_ref),
                    Some(Call {
                        purpose: Purpose::OwnInitialize(..),
                        ..
                    })
                );
                if !open {
                    self.set_stage(Stage::Words);
                    self.advance_leaving();
                }
            }
            Stage::Words => {
                // What the client said last counts too: its answers and its cancels.
                let speaking = |call: &Call<C>| match &call.purpose {
                    Purpose::Farewell | Purpose::OwnInitialized | Purpose::Cancel(_) => true,
                    Purpose::Notice(notice) => notice.message.kind() == Kind::Response,
                    _ => false,
                };
                if self.again.is_empty() && !self.calls.values().any(|call| speaking(call)) {
                    self.end_sessions();
                }
            }
            Stage::Delete => {
                if self.calls.is_empty() {
                    self.finish();
                }
            }
        }
    }

    pub(super) fn on_leaving_due(&mut self) {
        let Some(leaving) = self
            .leaving
            .as_ref()
            .filter(|leaving| leaving.deadline <= self.now)
        else {
            return;
        };
        if leaving.stage == Stage::Delete {
            self.finish();
        } else {
            self.end_sessions();
            let deadline = self.now + self.settings.leave_timeout;
            if let Some(leaving) = &mut self.leaving {
                leaving.deadline = deadline;
            }
        }
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(leaving) = &mut self.leaving {
            leaving.stage = stage;
        }
    }

    fn end_sessions(&mut self) {
        let open: Vec<CallId> = self.calls.keys().copied().collect();
        for call in open {
            self.abort(call);
        }
        self.again.clear();
        self.set_stage(Stage::Delete);
        let retired = std::mem::take(&mut self.retired);
        let session = std::mem::take(&mut self.session);
        self.end_sessions_of(retired.into_iter().chain([session]));
        self.advance_leaving();
    }

    fn finish(&mut self) {
        let open: Vec<CallId> = self.calls.keys().copied().collect();
        for call in open {
            self.abort(call);
        }
        self.leaving = None;
        self.draining = false;
        self.retiring = false;
        self.finished = true;
        self.emit(Output::Finished);
    }

    /// Answers a request of the upstream on behalf of a client that cannot.
    pub(super) fn answer_upstream(&mut self, generation: u32, id: &str, why: &str) {
        let Some((session, (context, credential))) =
            self.session_of(generation).zip(self.latest.clone())
        else {
            return;
        };
        let text =
            jsonrpc::error_response(id, era::INTERNAL_ERROR, &format!("mcp-ferry: {why}"), None);
        self.send_farewell(&session, Verb::Post(text), context, credential);
    }

    /// An exchange whose answer does not matter, on a session that need not be the present one.
    pub(super) fn send_farewell(
        &mut self,
        session: &Session,
        verb: Verb,
        context: C,
        credential: u64,
    ) {
        let purpose = Purpose::Farewell;
        let call = self.send_on(session, purpose, verb, Vec::new(), context, credential);
        self.limit(call, LINGER);
    }
}
