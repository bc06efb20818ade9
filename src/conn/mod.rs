//! One legacy connection as a task: its mailbox, its upstream exchanges and one timer go into the bridge, and what the
//! bridge asks for is carried out.
//!
//! The task lives from `GET /sse` until the farewell to the upstream is over, which is a little longer than the
//! client. There is no task per exchange: the few that are open are polled in turn. Nothing here knows a rule of the
//! protocol.

mod wire;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, error, info, warn};

use crate::budget::{Budget, Pressure, Share};
use crate::config::Limits;
use crate::metrics::{Counter, Metrics};
use crate::proto::bridge::{
    Answer, Bridge, CallId, End, Exchange, Input, Output, PostId, Posted, Reply, Settings, Verb,
};
use crate::proto::era::Era;
use crate::proto::sse;
use crate::store::{Binding, ConnectionId, Delivery, MAILBOX, Post, Store};
use crate::tap::{Bus, Label, Text, What};
use crate::upstream::{Call, Forwarded, Jar, Outgoing, Upstream};
use wire::Wire;

/// What every connection of a process shares.
#[derive(Debug)]
pub struct Shared {
    /// The MCP server behind.
    pub upstream: Arc<Upstream>,
    /// Where connections are registered.
    pub store: Store,
    /// Where what crosses is shown.
    pub bus: Arc<Bus>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What connections hold in memory together.
    pub budget: Arc<Budget>,
    /// The operator's limits.
    pub limits: Limits,
}

/// What one connection begins with.
#[derive(Debug)]
pub struct Opening {
    /// Its secret name.
    pub id: ConnectionId,
    /// Its name towards people.
    pub label: Label,
    /// The response head.
    pub head: bytes::Bytes,
    /// Whether the head announces the chunked coding; not towards HTTP/1.0.
    pub chunked: bool,
    /// The `endpoint` event, the first frame of the stream.
    pub first: bytes::Bytes,
    /// The query of the GET, to be repeated upstream.
    pub query: Option<Arc<str>>,
    /// The `MCP-Protocol-Version` header of the GET.
    pub version: Option<Box<str>>,
    /// Who may post on it.
    pub binding: Binding,
}

/// Opens a connection on the socket that asked for it: registers it and starts its task. `guard` is dropped when all
/// is over.
pub fn open<G: Send + 'static>(
    shared: &Arc<Shared>,
    opening: Opening,
    socket: TcpStream,
    guard: G,
) {
    let Opening {
        id,
        label,
        head,
        chunked,
        first,
        query,
        version,
        binding,
    } = opening;
    let (mailbox, deliveries) = mpsc::channel(MAILBOX);
    shared.store.claim(id.clone(), mailbox, binding);
    let mut wire = Wire::new(socket, head, chunked, shared.limits.client_buffer);
    wire.push(first);
    let span = debug_span!("connection", %label);
    let registration = Registration {
        shared: Arc::clone(shared),
        id,
        label,
    };
    shared.metrics.add(Counter::ConnectionsOpened);
    shared.bus.emit(label, || What::Opened);
    let connection = Connection::new(Arc::clone(shared), label, query, version, wire);
    let task = async move {
        let registration = registration;
        connection.run(deliveries, &registration).await;
        drop(registration);
        drop(guard);
    };
    tokio::task::spawn(task.instrument(span));
}

/// Keeps a connection known while its client is there, and counts its end, even if its task panics: then the stream
/// ends with it, which tells the client, and every other connection goes on.
#[derive(Debug)]
struct Registration {
    shared: Arc<Shared>,
    id: ConnectionId,
    label: Label,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.metrics.add(Counter::Panics);
            error!(label = %self.label, "a bug: this connection's task panicked; its stream is closed, the others go on");
        }
        self.shared.store.release(&self.id);
        self.shared.metrics.add(Counter::ConnectionsClosed);
        self.shared.bus.emit(self.label, || What::Closed);
    }
}

/// How long a client may read nothing while memory is short, if this much waits for it.
const SHORT_STALL: Duration = Duration::from_secs(1);
const SHORT_STALL_BYTES: usize = 64 * 1024;

/// How long a client may take to read what was left for it when everything else was over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What woke the task.
enum Woken {
    Delivery(Box<Delivery>),
    /// Replies of the exchange at this place are in `replies`.
    Replies(usize),
    ClientGone,
    Time,
}

struct Connection {
    shared: Arc<Shared>,
    label: Label,
    query: Option<Arc<str>>,
    connection_id: Option<HeaderValue>,
    bridge: Bridge<Arc<Forwarded>>,
    wire: Wire,
    calls: Vec<(CallId, Call)>,
    replies: Vec<Reply>,
    posts: Vec<(PostId, oneshot::Sender<Answer>)>,
    last_post: u64,
    cookies: Jar,
    share: Share,
    /// When it ends as soon as nothing is in flight, and when it ends; with `--max-stream-age`.
    retires: Option<Instant>,
    expires: Option<Instant>,
    /// When the bridge is told of the process's end; the idle ones are told one after another.
    drains: Option<Instant>,
    /// Where in such a span of time this connection has its turn, of 65,536 parts.
    turn_in_drain: u16,
    client_gone: bool,
    finished: bool,
    /// Which exchange is polled first, so that a busy one does not starve the others.
    turn: usize,
}

impl Connection {
    fn new(
        shared: Arc<Shared>,
        label: Label,
        query: Option<Arc<str>>,
        version: Option<Box<str>>,
        wire: Wire,
    ) -> Self {
        let mut random = [0; 24];
        // Without randomness the ids of connections could not have been made either.
        let _ = getrandom::fill(&mut random);
        let (seed, name) = random.split_at(8);
        let limits = &shared.limits;
        let seed = seed
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let settings = Settings {
            max_in_flight: limits.max_in_flight,
            request_timeout: limits.request_timeout,
            request_idle_timeout: limits.request_idle_timeout,
            version_hint: version,
            era: shared.upstream.era().unwrap_or(Era::Handshake),
            era_fixed: shared.upstream.era_is_fixed(),
            listen: limits.upstream_listen,
            downgrade_content: limits.downgrade_content,
            seed,
            ..Settings::default()
        };
        let age = |share: f64| {
            let age = limits.max_stream_age?;
            Some(Instant::now() + age.mul_f64(share))
        };
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let connection_id = shared
            .upstream
            .wants_connection_id()
            .then(|| HeaderValue::try_from(name).ok())
            .flatten();
        Self {
            label,
            query,
            connection_id,
            bridge: Bridge::new(settings, now()),
            wire,
            calls: Vec::new(),
            replies: Vec::new(),
            posts: Vec::new(),
            last_post: 0,
            cookies: Jar::default(),
            share: Share::new(&shared.budget),
            retires: age(0.8),
            expires: age(1.0),
            drains: None,
            turn_in_drain: u16::try_from(seed & 0xffff).unwrap_or_default(),
            client_gone: false,
            finished: false,
            turn: 0,
            shared,
        }
    }

    async fn run(
        mut self,
        mut deliveries: mpsc::Receiver<Box<Delivery>>,
        registration: &Registration,
    ) {
        debug!("opened");
        let mut timer = pin!(tokio::time::sleep_until(self.next_time()));
        self.wire.write();
        while !self.finished {
            // The timer is only ever moved forward: one that fires early costs less than one that is reset each turn.
            let next = self.next_time();
            if next < timer.deadline() || timer.is_elapsed() {
                timer.as_mut().reset(next);
            }
            let woken = poll_fn(|cx| {
                if !self.wire.is_closed()
                    && self.wire.poll_closed(cx).is_ready()
                    && !self.client_gone
                {
                    return Poll::Ready(Woken::ClientGone);
                }
                if let Poll::Ready(Some(delivery)) = deliveries.poll_recv(cx) {
                    return Poll::Ready(Woken::Delivery(delivery));
                }
                if let Poll::Ready(place) = self.poll_calls(cx) {
                    return Poll::Ready(Woken::Replies(place));
                }
                timer.as_mut().poll(cx).map(|()| Woken::Time)
            })
            .await;
            match woken {
                Woken::Delivery(delivery) => self.on_delivery(*delivery),
                Woken::Replies(place) => self.on_replies(place),
                Woken::ClientGone => self.on_client_gone(registration),
                Woken::Time => self.on_time(registration),
            }
            self.carry_out(registration);
            self.wire.write();
            self.account();
        }
        // The farewell may be over before a slow client has read its last events.
        let rest = poll_fn(|cx| {
            if self.wire.is_closed() {
                Poll::Ready(())
            } else {
                self.wire.poll_closed(cx)
            }
        });
        if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
            debug!("the client did not read its last events");
        }
        debug!("closed");
    }

    /// Says what this connection holds in memory.
    fn account(&mut self) {
        let partial: usize = self.calls.iter().map(|(_, call)| call.held()).sum();
        self.share
            .set(self.wire.waiting() + self.bridge.held_bytes() + partial);
    }

    /// Polls the exchanges, unless the client has too much to read already. While memory is short anything is too much;
    /// the client's reading is what goes on, and wakes this task.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let short = || self.share.pressure() == Pressure::Critical;
        if !self.wire.has_room() || (self.wire.waiting() > 0 && short()) {
            return Poll::Pending;
        }
        let count = self.calls.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if let Some((_, call)) = self.calls.get_mut(place)
                && call.poll_replies(cx, &mut self.replies).is_ready()
            {
                self.turn = place + 1;
                return Poll::Ready(place);
            }
        }
        Poll::Pending
    }

    fn next_time(&self) -> Instant {
        let limits = &self.shared.limits;
        let keep_alive = self.wire.last_moved() + limits.keep_alive;
        let client = match self.wire.stalled_since() {
            _ if self.client_gone => None,
            // Bytes that are written while nothing else happens wake nobody: a look now and then, so that the next
            // keep-alive is not late.
            Some(since) => {
                let often = self.wire.waiting() > SHORT_STALL_BYTES;
                let pause = if often {
                    SHORT_STALL
                } else {
                    limits.keep_alive
                };
                let look = Instant::now() + pause;
                Some(look.min(since + limits.client_stall_timeout))
            }
            None => Some(keep_alive),
        };
        let ends = [self.retires, self.expires, self.drains];
        let ends = ends.into_iter().flatten().filter(|_| !self.client_gone);
        let bridge = self.bridge.poll_timeout().map(Instant::from_std);
        // With nobody to keep alive and nothing to wait for, only exchanges can wake the task; a minute is a backstop.
        client
            .into_iter()
            .chain(bridge)
            .chain(ends)
            .min()
            .unwrap_or_else(|| Instant::now() + Duration::from_secs(60))
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Posted(post) => self.on_post(post),
            // Idle clients come back all at once when their streams end all at once.
            Delivery::Drain(spread) if !spread.is_zero() && self.bridge.in_flight() == 0 => {
                let wait = spread.mul_f64(f64::from(self.turn_in_drain) / 65536.0);
                self.drains = Some(Instant::now() + wait);
            }
            Delivery::Drain(_) => self.bridge.handle(Input::Drain, now()),
            Delivery::Expire => {
                self.bridge.handle(Input::Drain, now());
                self.bridge.handle(Input::Expire, now());
            }
        }
    }

    fn on_post(&mut self, post: Post) {
        #[cfg(test)]
        fail_where_asked(&post);
        for message in &post.messages {
            self.shared
                .bus
                .emit(self.label, || What::FromClient(Text::of(message.text())));
        }
        self.last_post += 1;
        let id = PostId(self.last_post);
        self.posts.push((id, post.answer));
        let posted = Posted {
            post: id,
            messages: post.messages,
            batch: post.batch,
            credential: post.credential,
            version: post.version,
            context: post.forwarded,
        };
        self.bridge.handle(Input::Posted(posted), now());
    }

    fn on_replies(&mut self, place: usize) {
        let Some((id, call)) = self.calls.get_mut(place) else {
            return;
        };
        let id = *id;
        if let Some(headers) = call.cookies.take() {
            let uri = call.uri().clone();
            self.cookies.store(&headers, &uri);
        }
        if matches!(self.replies.last(), Some(Reply::Refused(_) | Reply::End(_))) {
            self.calls.swap_remove(place);
            if self.calls.is_empty() {
                // An idle connection keeps no room for exchanges.
                self.calls = Vec::new();
            }
        }
        let mut replies = std::mem::take(&mut self.replies);
        for reply in replies.drain(..) {
            self.show_reply(id, &reply);
            self.bridge.handle(Input::Reply(id, reply), now());
        }
        self.replies = replies;
    }

    fn show_reply(&self, id: CallId, reply: &Reply) {
        let call = id.0;
        match reply {
            Reply::Head { status, .. } => self.shared.bus.emit(self.label, || What::Status {
                call,
                status: *status,
            }),
            Reply::Refused(refusal) => {
                debug!(call, status = refusal.status, "the upstream refused");
                self.shared.bus.emit(self.label, || What::Status {
                    call,
                    status: refusal.status,
                });
            }
            Reply::Message { text, .. } => {
                self.shared.bus.emit(self.label, || What::FromUpstream {
                    call,
                    text: Text::of(text),
                });
            }
            Reply::End(End::Complete) | Reply::Mark { .. } | Reply::Alive => {}
            Reply::End(
                End::Cut(why) | End::Unreached(why) | End::Lost(why) | End::WrongType(why),
            ) => {
                debug!(call, why, "an upstream exchange failed");
                self.shared.bus.emit(self.label, || What::Failed {
                    call,
                    why: why.clone(),
                });
            }
            Reply::Oversized => {
                info!(
                    call,
                    "the upstream sent a message larger than --max-message; it was dropped"
                );
            }
        }
    }

    /// The id becomes unknown at once, so that the client's next POST gets its 404 instead of silence.
    fn on_client_gone(&mut self, registration: &Registration) {
        self.client_gone = true;
        registration.shared.store.release(&registration.id);
        self.bridge.handle(Input::ClientGone, now());
    }

    fn on_time(&mut self, registration: &Registration) {
        let limits = &self.shared.limits;
        if !self.client_gone {
            match self.wire.stalled_since() {
                Some(since) if since + self.patience() <= Instant::now() => {
                    info!(
                        "the client has not read for {:?}; closing it",
                        self.patience()
                    );
                    self.shared.metrics.add(Counter::StalledClients);
                    self.wire.close();
                    self.on_client_gone(registration);
                }
                Some(_) => {}
                None if self.wire.last_moved() + limits.keep_alive <= Instant::now() => {
                    self.wire.push(sse::KEEP_ALIVE);
                }
                None => {}
            }
        }
        if self.bridge.poll_timeout().is_some_and(|at| at <= now()) {
            self.bridge.handle_timeout(now());
        }
        let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= Instant::now()).is_some();
        if due(&mut self.drains) {
            self.bridge.handle(Input::Drain, now());
        }
        if due(&mut self.retires) {
            self.bridge.handle(Input::Retire, now());
        }
        if due(&mut self.expires) {
            self.bridge.handle(Input::Expire, now());
        }
    }

    /// How long this client may read nothing.
    fn patience(&self) -> Duration {
        let limit = self.shared.limits.client_stall_timeout;
        let much = self.wire.waiting() > SHORT_STALL_BYTES;
        if much && self.share.pressure() == Pressure::Critical {
            limit.min(SHORT_STALL)
        } else {
            limit
        }
    }

    fn carry_out(&mut self, registration: &Registration) {
        while let Some(output) = self.bridge.poll_output() {
            match output {
                Output::Answer(post, answer) => self.answer(post, answer),
                Output::Send(id, exchange) => self.send(id, exchange),
                Output::Abort(id) => self.calls.retain(|(call, _)| *call != id),
                Output::Deliver(text, _) => {
                    self.shared.metrics.add(Counter::Delivered);
                    self.shared
                        .bus
                        .emit(self.label, || What::ToClient(Text::of(&text)));
                    self.wire.push(sse::message(&text));
                }
                Output::EndStream => {
                    self.client_gone = true;
                    registration.shared.store.release(&registration.id);
                    self.wire.end();
                }
                Output::Learnt(era) => self.shared.upstream.learn_era(era),
                Output::Warn(text) => warn!("{text}"),
                Output::Count(what) => self.shared.metrics.add(what.into()),
                Output::Finished => self.finished = true,
            }
        }
    }

    fn answer(&mut self, post: PostId, answer: Answer) {
        if let Some(place) = self.posts.iter().position(|(id, _)| *id == post) {
            let (_, sender) = self.posts.swap_remove(place);
            // An error means that the client did not wait for the status.
            let _ = sender.send(answer);
        }
    }

    fn send(&mut self, id: CallId, exchange: Exchange<Arc<Forwarded>>) {
        self.shared.metrics.add(Counter::UpstreamCalls);
        let Exchange {
            verb,
            session,
            version,
            mirrored,
            context,
            repeated,
        } = exchange;
        self.shared.bus.emit(self.label, || {
            let (method, text) = match &verb {
                Verb::Post(text) => ("POST", Some(Text::of(text))),
                Verb::Get { .. } => ("GET", None),
                Verb::Delete => ("DELETE", None),
            };
            What::ToUpstream {
                call: id.0,
                method,
                text,
            }
        });
        let cookies = self.cookies.header(self.shared.upstream.configured());
        let query = self.query.clone();
        let connection_id = self.connection_id.clone();
        let outgoing = Outgoing {
            verb,
            session,
            version,
            mirrored,
            forwarded: context,
            cookies,
            query,
            connection_id,
            repeated,
        };
        self.calls.push((id, self.shared.upstream.call(outgoing)));
    }
}

/// The present, as the bridge takes it. It follows tokio's clock, so that tests can stop it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A bug on demand, for the test that looks what becomes of the others (`server::tests`).
#[cfg(test)]
fn fail_where_asked(post: &Post) {
    let asked = |message: &crate::proto::jsonrpc::Message| message.method() == "test/panic";
    assert!(!post.messages.iter().any(asked), "asked for");
}
