//! One session of a Streamable HTTP client as a task: the same bridge as for a legacy client, with the MCP endpoint as
//! its front (2025-11-25, "Streamable HTTP").
//!
//! It begins with an `initialize` that the upstream would not understand, lives while its client makes requests, and
//! ends when the client ends it, when it has been idle for `--mcp-session-idle`, or when its `initialize` came to
//! nothing; then it says farewell upstream. What the client leaves is not cancelled (the same page, "Disconnection
//! SHOULD NOT be interpreted as the client cancelling its request"), but its outcome is dropped and counted: the listen
//! stream must not carry responses, and there are no event ids to resume from.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, info};

use super::backlog::{Backlog, Dropped};
use super::core::{Core, Origin, Towards};
use super::responses::Responses;
use super::{LAST_WORDS, Registration, Shared};
use crate::metrics::{self, Counter};
use crate::proto::bridge::{About, PostId};
use crate::proto::jsonrpc::{Id, Kind, Message};
use crate::store::{Binding, ConnectionId, Delivery, Front, Listener, MAILBOX, Post};
use crate::tap::Label;
use crate::tap::record::Front as Came;

/// What a session begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Its secret name.
    pub id: ConnectionId,
    /// Its name towards people.
    pub label: Label,
    /// The client's address.
    pub peer: IpAddr,
    /// The query of the POST, to be repeated upstream.
    pub query: Option<Arc<str>>,
    /// Who may use it.
    pub binding: Binding,
    /// The POST of `initialize`.
    pub post: Post,
}

/// Begins a session: registers it and starts its task, whose first message is `initialize`. `guard` is dropped when all
/// is over.
pub fn begin<G: Send + 'static>(shared: &Arc<Shared>, beginning: Beginning, guard: G) {
    let Beginning {
        id,
        label,
        peer,
        query,
        binding,
        post,
    } = beginning;
    let (mailbox, deliveries) = mpsc::channel(MAILBOX);
    let registration = Registration::new(shared, id, label, Came::Session, peer, None);
    registration.claim(mailbox, binding, Front::Session);
    let origin = Origin {
        label,
        front: metrics::labels::Front::Session,
        query,
        version: None,
        carries: false,
        ages: false,
        holds: true,
    };
    // The task would keep it three times: as what it was given, as what it gives to `run`, and there.
    let session = Box::new(Session {
        core: Core::new(Arc::clone(shared), origin),
        responses: Responses::default(),
        backlog: Backlog::default(),
        opening: post.messages.first().and_then(Message::id).cloned(),
        opening_post: None,
        active: Instant::now(),
        client_gone: false,
        finished: false,
    });
    let span = debug_span!("session", %label);
    let task = async move {
        let registration = registration;
        session.run(post, deliveries, &registration).await;
        drop(registration);
        drop(guard);
    };
    tokio::task::spawn(task.instrument(span));
}

/// What woke the task.
enum Woken {
    Delivery(Box<Delivery>),
    /// The exchange at this place has replies.
    Replies(usize),
    /// The client has given an answer up, or read it to its end.
    Left,
    Time,
}

struct Session {
    core: Core,
    responses: Responses,
    backlog: Backlog,
    /// The id of the `initialize` that began it, until it has its outcome.
    opening: Option<Id>,
    opening_post: Option<PostId>,
    /// When the client last asked for something, or last had an answer open.
    active: Instant,
    client_gone: bool,
    finished: bool,
}

impl Session {
    async fn run(
        mut self: Box<Self>,
        first: Post,
        mut deliveries: mpsc::Receiver<Box<Delivery>>,
        registration: &Registration,
    ) {
        debug!("began");
        self.opening_post = Some(self.on_post(first));
        self.carry_out(registration);
        let mut timer = pin!(tokio::time::sleep_until(self.next_time()));
        while !self.finished {
            // The timer is only ever moved forward: one that fires early costs less than one that is reset each turn.
            let next = self.next_time();
            if next < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            let woken = poll_fn(|cx| {
                let room = self.core.may_read(self.responses.waiting());
                if self.responses.poll_closed(cx, !room).is_ready() {
                    return Poll::Ready(Woken::Left);
                }
                if let Poll::Ready(Some(delivery)) = deliveries.poll_recv(cx) {
                    return Poll::Ready(Woken::Delivery(delivery));
                }
                if let Poll::Ready(place) = self.poll_calls(cx, room) {
                    return Poll::Ready(Woken::Replies(place));
                }
                timer.as_mut().poll(cx).map(|()| Woken::Time)
            })
            .await;
            match woken {
                Woken::Delivery(delivery) => self.on_delivery(*delivery, registration),
                Woken::Replies(place) => self.core.on_replies(place),
                Woken::Left => self.on_left(registration),
                Woken::Time => self.on_time(registration),
            }
            self.carry_out(registration);
            self.core
                .account(self.responses.waiting() + self.backlog.bytes());
        }
        // The farewell may be over before a slow client has read its last answers.
        let rest = poll_fn(|cx| {
            // Ready whenever one is gone, so that it is asked until none is left.
            while self.responses.poll_closed(cx, false).is_ready() {}
            if self.responses.is_empty() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
            debug!("the client did not read its last answers");
        }
        debug!("ended");
    }

    fn poll_calls(&mut self, cx: &mut Context<'_>, room: bool) -> Poll<usize> {
        if room {
            self.core.poll_calls(cx)
        } else {
            Poll::Pending
        }
    }

    fn next_time(&self) -> Instant {
        let limits = &self.core.shared.limits;
        let patience = self.core.patience(self.responses.waiting());
        let responses = self.responses.next_time(limits.keep_alive, patience);
        responses
            .into_iter()
            .chain(self.core.next_time(!self.client_gone))
            .chain(self.idle_end())
            .min()
            // With nothing to wait for, only exchanges can wake the task; a minute is a backstop.
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    /// When the session ends if its client does nothing until then.
    fn idle_end(&self) -> Option<Instant> {
        let idle = self.responses.is_empty() && self.core.bridge.in_flight() == 0;
        let limit = self.core.shared.limits.mcp_session_idle;
        (idle && !self.client_gone).then(|| self.active + limit)
    }

    fn on_delivery(&mut self, delivery: Delivery, registration: &Registration) {
        match delivery {
            Delivery::Posted(post) => {
                self.on_post(post);
            }
            Delivery::Listen(listener) => self.on_listen(listener),
            Delivery::Leave => self.on_client_gone(registration),
            Delivery::Drain(spread) => self.core.on_drain(spread),
            Delivery::Expire => self.core.on_expire(),
        }
    }

    fn on_post(&mut self, mut post: Post) -> PostId {
        self.active = Instant::now();
        let requests = post.messages.iter();
        let requests = requests.filter(|message| message.kind() == Kind::Request);
        let awaited: Vec<Id> = requests.filter_map(|it| it.id().cloned()).collect();
        let (outlet, batch) = (post.outlet.take(), post.batch);
        let id = self.core.on_post(post);
        if let Some(outlet) = outlet {
            self.responses.open(id, outlet, awaited, batch);
        }
        id
    }

    fn on_listen(&mut self, listener: Listener) {
        if self.client_gone {
            // Dropping it says that there is no such session.
            return;
        }
        self.active = Instant::now();
        let taken = self.responses.listen(listener.outlet);
        // An error means that the client did not wait.
        let _ = listener.taken.send(taken);
        if taken {
            while let Some(text) = self.backlog.take() {
                self.core.delivered(&text, &About::Nothing);
                self.responses.unasked(&text);
            }
        }
    }

    /// The client has given up an answer. When that was the answer that names the session, nobody knows its name.
    fn on_left(&mut self, registration: &Registration) {
        self.active = Instant::now();
        let unnamed = self
            .opening_post
            .is_some_and(|post| !self.responses.has(post));
        if self.opening.is_some() && unnamed {
            self.on_client_gone(registration);
        }
    }

    /// The id becomes unknown at once.
    fn on_client_gone(&mut self, registration: &Registration) {
        registration.release();
        self.core.on_client_gone();
    }

    fn on_time(&mut self, registration: &Registration) {
        let limits = &self.core.shared.limits;
        let patience = self.core.patience(self.responses.waiting());
        for _ in 0..self.responses.on_time(limits.keep_alive, patience) {
            info!("the client has not read an answer for {patience:?}; closing it");
            self.core.shared.metrics.add(Counter::StalledClients);
        }
        if self.idle_end().is_some_and(|at| at <= Instant::now()) {
            debug!("idle for too long");
            self.on_client_gone(registration);
        }
        self.core.on_time();
    }

    fn carry_out(&mut self, registration: &Registration) {
        while let Some(output) = self.core.next_output() {
            match output {
                Towards::Deliver(text, about) => self.deliver(&text, &about, registration),
                Towards::TurnedAway(post) => {
                    self.responses.forget(post);
                    if self.opening.is_some() && self.opening_post == Some(post) {
                        self.on_client_gone(registration);
                    }
                }
                // A session has no event ids.
                Towards::Carry(_) => {}
                Towards::End => {
                    self.client_gone = true;
                    registration.release();
                    self.responses.end();
                    self.backlog = Backlog::default();
                }
                Towards::Finished => self.finished = true,
            }
        }
        let bridge = &self.core.bridge;
        self.responses.end_unless(|id| bridge.awaits(id));
    }

    fn deliver(&mut self, text: &Bytes, about: &About, registration: &Registration) {
        let given = match about {
            About::Outcome(id) => {
                let given = self.responses.outcome(id, text);
                self.opened(id, text, registration);
                given
            }
            About::During(id) => self.responses.during(id, text) || self.responses.unasked(text),
            About::Nothing => self.responses.unasked(text),
        };
        if given {
            return self.core.delivered(text, about);
        }
        if matches!(about, About::Outcome(_)) {
            return self.core.shared.metrics.add(Counter::Undelivered);
        }
        for dropped in self.backlog.add(text.clone()) {
            match dropped {
                Dropped::Notification => self.core.shared.metrics.add(Counter::Undelivered),
                Dropped::Request(id) => {
                    let why = "mcp-ferry: the client does not listen, and too much waits for it";
                    self.core.refuse_for_client(&id, why);
                }
            }
        }
    }

    /// The outcome of the `initialize` that began the session: when it is an error there is no session.
    fn opened(&mut self, id: &Id, outcome: &Bytes, registration: &Registration) {
        if self.opening.as_ref() != Some(id) {
            return;
        }
        self.opening = None;
        if Message::parse(outcome.clone()).is_ok_and(|outcome| outcome.is_error()) {
            self.on_client_gone(registration);
        }
    }
}
