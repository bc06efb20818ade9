//! The handshake era (2024-11-05 to 2025-11-25): `initialize`, the gate behind it, sessions and their loss.
//!
//! Every message of the client passes one queue, and the gate at its end is open except while a handshake is under
//! way: nothing overtakes `initialize`, and nothing is sent before `notifications/initialized` was accepted (I5).
//! A client that begins without a handshake (several reconnect so) gets one made by the ferry. A session that the
//! upstream has lost is replaced once per request, with the client's own parameters, and what the upstream provably
//! refused is sent again.

use std::sync::Arc;

use bytes::Bytes;

use super::leave::ClientState;
use super::ledger::{Attempts, Origin, Place, Request};
use super::missed::Promised;
use super::trouble::{self, Executed, Reason, Trouble};
use super::vocabulary::{CallId, Counted, Output, Refusal, Verb};
use super::{Asked, Bridge, Call, Notice, Purpose, Queued};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::{self, Id, Kind, Message};

/// Replaced sessions that are remembered, to be ended when nothing is in flight.
const MAX_RETIRED: usize = 8;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// How far the handshake with the upstream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No handshake yet, or the session was lost: the first message that needs one starts it.
    Fresh,
    /// `initialize` is under way, the client's or the ferry's own; the gate is shut.
    Initializing,
    /// `notifications/initialized` is under way in this exchange; the gate is shut.
    Confirming(CallId),
    /// This many exchanges restore what the lost session knew; the gate is shut.
    Restoring(usize),
    /// The gate is open.
    Open,
}

/// What the upstream gave in its handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Session {
    pub(super) id: Option<Arc<str>>,
    /// The revision it agreed to.
    pub(super) version: Option<Arc<str>>,
    /// Counts handshakes, so that what belongs to an older one is told apart.
    pub(super) generation: u32,
}

impl Session {
    /// Whether what is said on it is said in a modern revision.
    pub(super) fn is_modern(&self) -> bool {
        self.version.as_deref() == Some(era::MODERN_VERSION)
    }
}

impl<C: Clone> Bridge<C> {
    /// The session of that handshake, to say something on it. `None` when it is over.
    pub(super) fn session_of(&self, generation: u32) -> Option<Session> {
        if generation != self.session.generation {
            let retired = |session: &&Session| session.generation == generation;
            return self.retired.iter().find(retired).cloned();
        }
        match self.phase {
            Phase::Open | Phase::Confirming(_) | Phase::Restoring(_) => Some(self.session.clone()),
            // A server may ping before it answers `initialize`: the session is not adopted yet, but named.
            Phase::Initializing => {
                let call = self.calls.get(&self.handshake_call()?)?;
                Some(Session {
                    id: call.session.as_deref().map(Arc::from),
                    version: None,
                    generation,
                })
            }
            Phase::Fresh => None,
        }
    }

    /// Moves the queue on, as far as the gate lets it.
    pub(super) fn pump(&mut self) {
        loop {
            match self.phase {
                Phase::Initializing | Phase::Confirming(_) | Phase::Restoring(_) => return,
                Phase::Fresh => {
                    let Some(origin) = self.next_needing_handshake() else {
                        return;
                    };
                    if let Some(origin) = origin {
                        return self.initialize_ourselves(origin);
                    }
                }
                Phase::Open => {}
            }
            let Some(next) = self.queue.pop_front() else {
                return;
            };
            self.dispatch(next);
        }
    }

    /// Looks at the queue's head in the phase `Fresh`: `None` when it is empty, `Some(None)` when it is the client's
    /// own `initialize`, otherwise where the message that needs a handshake came from.
    fn next_needing_handshake(&mut self) -> Option<Option<Origin<C>>> {
        loop {
            match self.queue.front()? {
                Queued::Notice(notice) => return Some(Some(notice.origin.clone())),
                Queued::Request(id) => match self.ledger.get(id) {
                    Some(request) if request.is_initialize() => return Some(None),
                    Some(request) => return Some(Some(request.origin.clone())),
                    None => {
                        self.queue.pop_front();
                    }
                },
            }
        }
    }

    fn dispatch(&mut self, queued: Queued<C>) {
        match queued {
            Queued::Request(id) => {
                let Some(request) = self
                    .ledger
                    .get(&id)
                    .filter(|request| request.place == Place::Queued)
                else {
                    return;
                };
                if request.is_initialize() {
                    self.initialize_for_client(&id)
                } else {
                    self.send_request(&id)
                }
            }
            Queued::Notice(notice) => {
                if self.is_modern() {
                    return self.modern_notice(notice);
                }
                if notice.message.method() == "notifications/initialized" {
                    return self.confirm_for_client(notice);
                }
                let session = self.session.clone();
                self.send_notice(&session, notice);
            }
        }
    }

    /// Sends a request of the ledger upstream.
    pub(super) fn send_request(&mut self, id: &Id) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        if self.era == Era::Modern && !request.is_initialize() {
            return self.send_modern(id);
        }
        if request.rounds.is_some() {
            let text = "the upstream was replaced by one of an older revision while it waited for the client's input; \
                        the request may have been executed in part";
            let trouble = Trouble::new(Reason::SessionLost, Executed::Unknown, text);
            return self.fail(id, &trouble);
        }
        request.sent = true;
        let verb = Verb::Post(request.message.text().clone());
        let (context, credential) = (request.origin.context.clone(), request.origin.credential);
        let call = self.send(Purpose::Request(id.clone()), verb, context, credential);
        let generation = self.session.generation;
        if let Some(request) = self.ledger.get_mut(id) {
            request.place = Place::Sent(call);
            request.generation = generation;
        }
    }

    /// The client's `initialize` goes upstream as it is, without a session. A second one on the same connection
    /// begins anew; what is in flight on the old session may end there.
    fn initialize_for_client(&mut self, id: &Id) {
        let Some(request) = self.ledger.get(id) else {
            return;
        };
        self.remembered.initialize = Some(request.message.as_str().into());
        self.remembered.client_version = requested_version(&request.message);
        self.remembered.is_clients = true;
        self.remembered.carried = false;
        self.retire_session();
        self.phase = Phase::Initializing;
        if self.is_modern() {
            self.discover_for_client(id);
        } else {
            self.send_request(id);
        }
    }

    fn retire_session(&mut self) {
        if self.session.id.is_some() {
            self.retired.push(self.session.clone());
        }
        self.begin_handshake();
        if self.retired.len() > MAX_RETIRED {
            let oldest = self.retired.remove(0);
            self.end_sessions_of([oldest]);
        }
    }

    /// Each attempt at a handshake is a generation of its own: what belongs to an earlier one ends, except where its
    /// session was retired.
    pub(super) fn begin_handshake(&mut self) {
        self.session = Session {
            generation: self.session.generation.wrapping_add(1),
            ..Session::default()
        };
        let retired = &self.retired;
        let kept = |generation| retired.iter().any(|old| old.generation == generation);
        self.asked.retain(|_, asked| match asked {
            Asked::Upstream { generation, .. } => kept(*generation),
            Asked::Round(_) => true,
        });
        self.forget_session_state();
        self.queue_what_waits();
    }

    /// What belongs to a session and ends with it.
    fn forget_session_state(&mut self) {
        self.remembered.confirmed = false;
        if let Some(call) = std::mem::take(&mut self.listen).call() {
            self.abort(call);
        }
        self.close_subscriptions();
    }

    /// Ends the replaced sessions on which nothing is under way any more.
    pub(super) fn end_retired_sessions(&mut self) {
        if self.retired.is_empty() || self.phase == Phase::Initializing {
            return;
        }
        let busy = |session: &Session| {
            let speaks = |call: &Call<C>| {
                call.generation == session.generation
                    && matches!(
                        call.purpose,
                        Purpose::Request(_) | Purpose::Cancel(_) | Purpose::Notice(_)
                    )
            };
            let runs = |request: &Request<C>| request.generation == session.generation;
            self.calls.values().any(|call| speaks(call))
                || self.ledger.values().any(|request| runs(request))
        };
        let (busy, idle): (Vec<_>, Vec<_>) = self.retired.iter().cloned().partition(busy);
        self.retired = busy;
        self.end_sessions_of(idle);
    }

    /// Ends sessions upstream, and what was asked on them.
    pub(super) fn end_sessions_of(&mut self, sessions: impl IntoIterator<Item = Session>) {
        let Some((context, credential)) = self.latest.clone() else {
            return;
        };
        for session in sessions {
            self.asked
                .retain(|_, asked| !asked.is_of(session.generation));
            if session.id.is_some() {
                self.send_farewell(&session, Verb::Delete, context.clone(), credential);
            }
        }
    }

    /// The answer to the client's `initialize`, as the client shall see it, and what follows from it.
    pub(super) fn initialized(&mut self, answer: &Message, session: Option<Box<str>>) -> Bytes {
        self.adopt_session(answer, session);
        self.remembered.forget_settings();
        self.phase = Phase::Open;
        self.carry();
        let asked = self
            .remembered
            .client_version
            .as_deref()
            .filter(|version| era::is_handshake_version(version));
        match (asked, answer.result_member("protocolVersion")) {
            (Some(asked), Some((span, _))) => answer.text_with(&span, &jsonrpc::quote(asked)),
            _ => answer.text().clone(),
        }
    }

    /// A session counts only when it comes with a good result: servers put fresh ids on refusals too.
    fn adopt_session(&mut self, answer: &Message, session: Option<Box<str>>) {
        self.era = Era::Handshake;
        self.emit(Output::Learnt(Era::Handshake));
        self.remembered.shaken = true;
        self.remembered.promised = Promised::of(answer);
        self.session.id = session.map(Arc::from);
        let version = answer
            .result_member("protocolVersion")
            .and_then(|(_, json)| serde_json::from_str::<String>(json).ok());
        // A modern revision has no handshake; whoever names one here has not understood the question.
        let version = version.filter(|version| !era::is_modern_version(version));
        self.session.version = version.map(Arc::from);
    }

    /// The client's `notifications/initialized`: once per session.
    fn confirm_for_client(&mut self, notice: Notice<C>) {
        if self.remembered.confirmed {
            return self.release_post(notice.origin.post);
        }
        let notice = Notice {
            replayed: true,
            ..notice
        };
        let session = self.session.clone();
        let call = self.send_notice(&session, notice);
        self.confirming(call);
    }

    pub(super) fn confirming(&mut self, call: CallId) {
        self.remembered.confirmed = true;
        self.phase = Phase::Confirming(call);
        self.limit(call, self.settings.handshake_timeout);
    }

    /// `notifications/initialized` was answered, well or not: the gate opens, and the listen stream may.
    pub(super) fn confirmed(&mut self, call: CallId, accepted: bool) {
        if self.phase != Phase::Confirming(call) {
            return;
        }
        self.phase = Phase::Open;
        if accepted {
            self.open_listen();
        }
    }

    /// A handshake that the client did not make, or made with an upstream that forgot it.
    fn initialize_ourselves(&mut self, origin: Origin<C>) {
        if self.is_modern() {
            self.count(if self.remembered.shaken {
                Counted::Reinitialize
            } else {
                Counted::ImplicitHandshake
            });
            return self.discover_ourselves(origin);
        }
        self.initialize_again(origin, Attempts::default());
    }

    pub(super) fn initialize_again(&mut self, origin: Origin<C>, attempts: Attempts) {
        self.count(match (attempts.failures, self.remembered.shaken) {
            (0, false) => Counted::ImplicitHandshake,
            (0, true) => Counted::Reinitialize,
            _ => Counted::Retry,
        });
        let number = self.session.generation.wrapping_add(1);
        let id = format!("\"ferry:initialize:{number}\"");
        let text = match self
            .remembered
            .initialize
            .as_deref()
            .map(|text| Message::parse(Bytes::copy_from_slice(text.as_bytes())))
        {
            Some(Ok(message)) => message.text_with_id(&id),
            _ => self.default_initialize(&id),
        };
        self.begin_handshake();
        self.phase = Phase::Initializing;
        let (context, credential) = (origin.context.clone(), origin.credential);
        let id = Id::String(format!("ferry:initialize:{number}").into());
        let purpose = Purpose::OwnInitialize(origin, attempts, id);
        let call = self.send(purpose, Verb::Post(text), context, credential);
        self.limit(call, self.settings.handshake_timeout);
    }

    /// `initialize` for a client that never said what it can do: it promises nothing on the client's behalf.
    pub(super) fn default_initialize(&mut self, id: &str) -> Bytes {
        let hint = self
            .settings
            .version_hint
            .as_deref()
            .filter(|version| era::is_handshake_version(version));
        let version: Box<str> = hint.unwrap_or(era::LEGACY_VERSION).into();
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"mcp-ferry","version":"{}"}}}}}}"#,
            env!("CARGO_PKG_VERSION"),
        );
        self.remembered.client_version = Some(version);
        self.remembered.initialize = Some(text.as_str().into());
        self.remembered.is_clients = false;
        text.into()
    }

    /// The answer to the ferry's own `initialize`; the client does not see it.
    pub(super) fn own_initialize_answered(&mut self, answer: &Message, session: Option<Box<str>>) {
        self.remembered.replaced = self.remembered.is_replacing();
        self.adopt_session(answer, session);
        self.carry();
        if self.client_state() == ClientState::Gone {
            self.phase = Phase::Open;
            return;
        }
        let Some((context, credential)) = self.latest.clone() else {
            return;
        };
        let call = self.send(
            Purpose::OwnInitialized,
            Verb::Post(INITIALIZED.into()),
            context,
            credential,
        );
        self.confirming(call);
    }

    /// The ferry's own `initialize` was answered with an error.
    pub(super) fn own_initialize_refused(&mut self, answer: &[u8]) {
        let why = format!("the upstream refused it{}", trouble::excerpt(answer));
        self.own_initialize_failed(&Trouble::handshake(&why), None);
    }

    /// The ferry's own handshake came to nothing: whatever waits for it learns why, and nothing of it was executed.
    /// Where the upstream refused the credential, that concerns only what came with the same one.
    pub(super) fn own_initialize_failed(
        &mut self,
        trouble: &Trouble,
        refusal: Option<(&Refusal, u64)>,
    ) {
        self.phase = Phase::Fresh;
        let (refusal, refused) = refusal.unzip();
        for queued in std::mem::take(&mut self.queue) {
            let credential = match &queued {
                Queued::Request(id) => self.ledger.get(id).map(|it| it.origin.credential),
                Queued::Notice(notice) => Some(notice.origin.credential),
            };
            if refused.is_some() && credential != refused {
                self.queue.push_back(queued);
                continue;
            }
            match queued {
                Queued::Request(id) => {
                    let Some(request) = self
                        .ledger
                        .get(&id)
                        .filter(|request| request.place == Place::Queued)
                    else {
                        continue;
                    };
                    let (post, sent) = (request.origin.post, request.sent);
                    if refusal.is_some_and(|refusal| self.refuse_post(post, refusal)) {
                        self.take(&id);
                    } else if sent {
                        // An earlier attempt may have got through.
                        let mut trouble = trouble.clone();
                        trouble.executed = Executed::Unknown;
                        self.fail(&id, &trouble);
                    } else {
                        self.fail(&id, trouble);
                    }
                }
                Queued::Notice(Notice { origin, .. }) => {
                    if !refusal.is_some_and(|refusal| self.refuse_post(origin.post, refusal)) {
                        self.release_post(origin.post);
                    }
                }
            }
        }
    }

    /// The upstream does not know the session of this generation. What still waits upstream ends by its own stream.
    pub(super) fn lose_session(&mut self, generation: u32) {
        if generation != self.session.generation || self.session.id.is_none() {
            return;
        }
        self.session.id = None;
        self.forget_session_state();
        self.asked.retain(|_, asked| !asked.is_of(generation));
        self.phase = Phase::Fresh;
    }

    /// The listen stream was refused for its session: a new one at once, so that nothing is missed while no request
    /// is made. Its own first listen stream cannot lead here again.
    pub(super) fn renew_session(&mut self) {
        let Some((context, credential)) = self
            .latest
            .clone()
            .filter(|_| self.phase == Phase::Fresh && self.leaving.is_none())
        else {
            return;
        };
        self.initialize_ourselves(Origin {
            context,
            credential,
            post: None,
        });
    }

    /// A request that the upstream refused for its session: again, once, on a new one.
    pub(super) fn replay(&mut self, id: &Id, generation: u32) {
        let Some(request) = self.ledger.get_mut(id) else {
            return;
        };
        // This attempt was refused; an earlier one may have got through.
        request.sent = request.resent;
        if request.replayed {
            let executed = if request.sent {
                Executed::Unknown
            } else {
                Executed::No
            };
            let text =
                "the upstream does not keep its session: it refused the request on a new one too";
            return self.fail(id, &Trouble::new(Reason::SessionLost, executed, text));
        }
        request.replayed = true;
        request.place = Place::Queued;
        self.queue_replay(Queued::Request(id.clone()));
        self.lose_session(generation);
    }

    /// What is sent again goes before what was never sent, in the order in which it came back.
    fn queue_replay(&mut self, queued: Queued<C>) {
        let replayed = |queued: &&Queued<C>| match queued {
            Queued::Request(id) => self.ledger.get(id).is_some_and(|request| request.replayed),
            Queued::Notice(notice) => notice.replayed,
        };
        let at = self.queue.iter().take_while(replayed).count();
        self.queue.insert(at, queued);
    }

    /// A notification refused for its session goes the same way; an answer belonged to the lost session alone.
    pub(super) fn replay_notice(&mut self, notice: Notice<C>, generation: u32) {
        let here = self.client_state() == ClientState::Here;
        if here && notice.message.kind() == Kind::Notification && !notice.replayed {
            let replayed = true;
            self.queue_replay(Queued::Notice(Notice { replayed, ..notice }));
        } else {
            self.release_post(notice.origin.post);
        }
        self.lose_session(generation);
    }

    /// Whether this connection still waits for a handshake of its own with the upstream.
    pub(super) fn handshake_call(&self) -> Option<CallId> {
        let mut initialize = self.ledger.values().filter(|it| it.is_initialize());
        let clients = initialize.find_map(|request| match request.place {
            Place::Sent(call) => Some(call),
            _ => None,
        });
        clients.or_else(|| {
            self.calls
                .iter()
                .find(|(_, call)| matches!(call.purpose, Purpose::OwnInitialize(..)))
                .map(|(id, _)| *id)
        })
    }
}

fn requested_version(initialize: &Message) -> Option<Box<str>> {
    let (_, json) = initialize.param("protocolVersion")?;
    serde_json::from_str::<String>(json)
        .ok()
        .map(String::into_boxed_str)
}
