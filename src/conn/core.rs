//! What every connection has, whatever its client's side looks like: the bridge, its exchanges with the upstream, the
//! POSTs that wait for a status, its times, its share of the budget.
//!
//! A front (a `stream` or a `session`) owns a [`Core`], feeds it what its client does, and takes from
//! [`Core::next_output`] what is to be done towards the client; the rest is carried out here. Nothing here knows a rule
//! of the protocol, and nothing here writes to a client.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::exchanges::Exchanges;
use super::presence::Presence;
use super::timing::Timing;
use super::{Shared, now};
use crate::budget::{Pressure, Share};
use crate::metrics::Counter;
use crate::metrics::labels::Front;
use crate::proto::bridge::{
    About, Answer, Bridge, Counted, Input, Output, PostId, Posted, Reply, Settings, Verb,
};
use crate::proto::era::{self, Era};
use crate::proto::jsonrpc::{self, Message};
use crate::store::Post;
use crate::tap::{Crossing, Keep, Label};
use crate::upstream::Forwarded;

/// What a connection begins with, as far as the upstream is concerned.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) label: Label,
    /// How its client came.
    pub(super) front: Front,
    /// To be repeated upstream.
    pub(super) query: Option<Arc<str>>,
    /// The revision that the client's first request named.
    pub(super) version: Option<Box<str>>,
    /// Whether its client can carry something to its next stream.
    pub(super) carries: bool,
    /// Whether it ends at `--max-stream-age`.
    pub(super) ages: bool,
    /// Whether each POST's status waits for the upstream's, where that does not take long.
    pub(super) holds: bool,
}

/// What is to be done towards the client.
#[derive(Debug)]
pub(super) enum Towards {
    /// Give it a message.
    Deliver(Bytes, About),
    /// Have it carry this, with the next message; nothing where it is empty.
    Carry(Bytes),
    /// This POST was not accepted; its HTTP status says so.
    TurnedAway(PostId),
    /// Nothing follows: end its streams.
    End,
    /// The connection is over.
    Finished,
}

/// A connection without its client.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) label: Label,
    pub(super) bridge: Bridge<Arc<Forwarded>>,
    exchanges: Exchanges,
    posts: Vec<(PostId, oneshot::Sender<Answer>)>,
    last_post: u64,
    /// Where the client's last POST came from.
    latest: Option<(Arc<Forwarded>, u64)>,
    share: Share,
    timing: Timing,
    presence: Presence,
    /// When it ends as soon as nothing is in flight, and when it ends; with `--max-stream-age`.
    retires: Option<Instant>,
    expires: Option<Instant>,
    /// When the bridge is told of the process's end; the idle ones are told one after another.
    drains: Option<Instant>,
    /// Where in such a span of time this connection has its turn, of 65,536 parts.
    turn_in_drain: u16,
}

impl Core {
    pub(super) fn new(shared: Arc<Shared>, origin: Origin) -> Self {
        let mut random = [0; 24];
        // Without randomness the ids of connections could not have been made either.
        let _ = getrandom::fill(&mut random);
        let (seed, name) = random.split_at(8);
        let limits = &shared.limits;
        let era = shared.upstream.era().unwrap_or(Era::Handshake);
        let seed = seed
            .iter()
            .fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let settings = Settings {
            max_in_flight: limits.max_in_flight,
            request_timeout: limits.request_timeout,
            request_idle_timeout: limits.request_idle_timeout,
            hold_proven: origin.holds,
            version_hint: origin.version,
            era,
            era_fixed: shared.upstream.era_is_fixed(),
            listen: limits.upstream_listen,
            downgrade_content: limits.downgrade_content,
            carry: origin.carries,
            seed,
            ..Settings::default()
        };
        let age = |share: f64| {
            let age = limits.max_stream_age.filter(|_| origin.ages)?;
            Some(Instant::now() + age.mul_f64(share))
        };
        Self {
            label: origin.label,
            bridge: Bridge::new(settings, now()),
            exchanges: Exchanges::new(&shared, origin.label, origin.query, name),
            posts: Vec::new(),
            last_post: 0,
            latest: None,
            share: Share::new(&shared.budget),
            timing: Timing::new(&shared.metrics),
            presence: Presence::new(&shared.metrics, origin.front, era),
            retires: age(0.8),
            expires: age(1.0),
            drains: None,
            turn_in_drain: u16::try_from(seed & 0xffff).unwrap_or_default(),
            shared,
        }
    }

    /// Says what this connection holds in memory, `waiting` bytes of it for the client to read.
    pub(super) fn account(&mut self, waiting: usize) {
        let partial = self.exchanges.held();
        self.share.set(waiting + self.bridge.held_bytes() + partial);
    }

    /// Whether the upstream may be read while `waiting` bytes wait for the client. While memory is short anything is
    /// too much; the client's reading is what goes on then, and wakes the connection's task.
    pub(super) fn may_read(&self, waiting: usize) -> bool {
        let short = || self.share.pressure() == Pressure::Critical;
        waiting < self.shared.limits.client_buffer && !(waiting > 0 && short())
    }

    /// How long a client for whom `waiting` bytes wait may read nothing.
    pub(super) fn patience(&self, waiting: usize) -> Duration {
        self.shared.patience(waiting)
    }

    /// Polls the exchanges. Ready with the place of one that has replies, which are for [`Self::on_replies`].
    pub(super) fn poll_calls(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.exchanges.poll(cx)
    }

    /// Takes in the replies of the exchange at this place.
    pub(super) fn on_replies(&mut self, place: usize) {
        let bridge = &mut self.bridge;
        self.timing.arrived();
        self.exchanges.take(place, |id, reply| {
            if let Reply::Message { text, .. } = &reply {
                self.timing.received(text);
            }
            bridge.handle(Input::Reply(id, reply), now());
        });
    }

    /// When [`Self::on_time`] wants to be called. `client_here` says whether there is a client to end anything for.
    pub(super) fn next_time(&self, client_here: bool) -> Option<Instant> {
        let ends = [self.retires, self.expires, self.drains];
        let ends = ends.into_iter().flatten().filter(|_| client_here);
        let bridge = self.bridge.poll_timeout().map(Instant::from_std);
        ends.chain(bridge).min()
    }

    pub(super) fn on_time(&mut self) {
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

    /// The process is stopping. Idle clients come back all at once when their streams end all at once, so that those
    /// end within `spread`, one after another.
    pub(super) fn on_drain(&mut self, spread: Duration) {
        if spread.is_zero() || self.bridge.in_flight() > 0 {
            return self.bridge.handle(Input::Drain, now());
        }
        let wait = spread.mul_f64(f64::from(self.turn_in_drain) / 65536.0);
        self.drains = Some(Instant::now() + wait);
    }

    pub(super) fn on_expire(&mut self) {
        self.bridge.handle(Input::Drain, now());
        self.bridge.handle(Input::Expire, now());
    }

    /// Takes in a POST; says under which name its fate is told.
    pub(super) fn on_post(&mut self, post: Post) -> PostId {
        #[cfg(test)]
        fail_where_asked(&post);
        let id = self.next_post();
        for message in &post.messages {
            let posted = |keep: Keep| keep.posted(id.0, post.shown.as_ref(), message);
            self.shared.bus.on(self.label, posted);
            self.timing.posted(id, message);
        }
        self.posts.push((id, post.answer));
        self.latest = Some((Arc::clone(&post.forwarded), post.credential));
        let posted = Posted {
            post: id,
            messages: post.messages,
            batch: post.batch,
            credential: post.credential,
            version: post.version,
            context: post.forwarded,
        };
        self.bridge.handle(Input::Posted(posted), now());
        id
    }

    fn next_post(&mut self) -> PostId {
        self.last_post += 1;
        PostId(self.last_post)
    }

    /// Answers a request of the upstream in the place of a client that it cannot be given to. `id` is the JSON text of
    /// the id that the client would have seen.
    pub(super) fn refuse_for_client(&mut self, id: &str, why: &str) {
        let text = jsonrpc::error_response(id, era::INTERNAL_ERROR, why, None);
        let Some((message, (context, credential))) =
            Message::parse(text).ok().zip(self.latest.clone())
        else {
            return;
        };
        let posted = Posted {
            post: self.next_post(),
            messages: vec![message],
            batch: false,
            credential,
            version: None,
            context,
        };
        self.bridge.handle(Input::Posted(posted), now());
    }

    pub(super) fn on_client_gone(&mut self) {
        self.presence.leaves();
        self.timing.client_gone();
        self.bridge.handle(Input::ClientGone, now());
    }

    /// Carries out what the bridge asks for, up to the next thing that is the front's to do.
    pub(super) fn next_output(&mut self) -> Option<Towards> {
        loop {
            let Some(output) = self.bridge.poll_output() else {
                let bridge = &self.bridge;
                self.timing
                    .settle(bridge.in_flight(), |id| bridge.awaits(id));
                return None;
            };
            match output {
                Output::Answer(post, answer) => {
                    let accepted = answer == Answer::Accepted;
                    self.answer(post, answer);
                    if !accepted {
                        self.timing.turned_away(post);
                        return Some(Towards::TurnedAway(post));
                    }
                }
                Output::Send(id, exchange) => {
                    let text = match &exchange.verb {
                        Verb::Post(text) => Some(text),
                        Verb::Get { .. } | Verb::Delete => None,
                    };
                    self.timing.begun(&exchange.cause, text);
                    self.exchanges.begin(id, exchange);
                }
                Output::Abort(id) => self.exchanges.abort(id),
                Output::Warn(text) => warn!("{text}"),
                Output::Learnt(era) => {
                    self.presence.learns(era);
                    self.shared.upstream.learn_era(era);
                    self.shared.bus.on(self.label, |_| Crossing::Learnt(era));
                }
                Output::Count(what) => {
                    if what == Counted::FerryError {
                        self.timing.errs();
                    }
                    self.shared.metrics.add(what.into());
                }
                Output::Deliver(text, about) => {
                    if let About::Outcome(id) = &about {
                        self.timing.outcome(id, &text);
                    }
                    return Some(Towards::Deliver(text, about));
                }
                Output::Carry(text) => return Some(Towards::Carry(text)),
                Output::EndStream => {
                    self.presence.leaves();
                    self.timing.client_gone();
                    return Some(Towards::End);
                }
                Output::Finished => return Some(Towards::Finished),
            }
        }
    }

    /// A message was given to the client.
    pub(super) fn delivered(&self, text: &Bytes, about: &About) {
        self.shared.metrics.add(Counter::Delivered);
        self.timing.given(text);
        self.shared.bus.on(self.label, |keep| Crossing::ToClient {
            about: about.clone(),
            text: keep.text(text),
        });
    }

    fn answer(&mut self, post: PostId, answer: Answer) {
        self.shared.bus.on(self.label, |_| Crossing::Answered {
            post: post.0,
            status: answer.status(),
        });
        if let Some(place) = self.posts.iter().position(|(id, _)| *id == post) {
            let (_, sender) = self.posts.swap_remove(place);
            // An error means that the client did not wait for the status.
            let _ = sender.send(answer);
        }
    }
}

/// A bug on demand, for the test that looks what becomes of the others (`server::tests`).
#[cfg(test)]
fn fail_where_asked(post: &Post) {
    let asked = |message: &Message| message.method() == "test/panic";
    assert!(!post.messages.iter().any(asked), "asked for");
}
