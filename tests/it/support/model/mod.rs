//! A model client and a model upstream around one bridge, which check the ledger's invariants at every step.
//!
//! The model keeps its own books: what the client posted and what became of it, what the upstream issued, executed and
//! asked. It reads what crosses with `serde_json::Value`, not with the code under test. Every message carries a nonce
//! (`"n"`), so that an answer to the wrong request is noticed even when ids are used again.
//!
//! `client` and `upstream` do things, `watch` judges what the bridge makes of them.

mod client;
mod upstream;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mcp_ferry::proto::bridge::{Bridge, CallId, Input, Settings};

use super::random::Random;

/// What is wrong, in words.
pub type Check = Result<(), String>;

/// What became of a request of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    /// In flight or not: the upstream refused another message of its batch, and the client the whole POST.
    Loose,
    /// Answered, cancelled, or its stream ended.
    Over,
    /// Its POST was refused.
    NotTaken,
}

#[derive(Debug)]
struct Request {
    nonce: String,
    id: String,
    initialize: bool,
    safe: bool,
    fate: Fate,
    executed: u32,
    /// The client was told that it was not executed.
    promised: bool,
    /// The session that it was last sent on, once it was sent.
    sent_on: Option<Option<String>>,
}

#[derive(Debug)]
struct Session {
    /// Of the handshake that it comes from.
    generation: usize,
    /// Whether the upstream knows it.
    alive: bool,
    /// Whether a good `initialize` result that came with it reached the bridge.
    adopted: bool,
    /// Whether the bridge was told that it is unknown.
    refused: bool,
    deleted: u32,
}

/// A request of the upstream to the client.
#[derive(Debug)]
struct Question {
    nonce: String,
    session: Option<String>,
    /// Of the handshake that its exchange belongs to.
    generation: usize,
    /// What the client answered.
    answer: Option<String>,
    /// How often an answer left for the upstream, and whether one was ever sent.
    answered: u32,
    tried: bool,
    withdrawn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Initialize,
    Initialized,
    Request(usize),
    Restore,
    Cancel,
    Notice,
    Answer,
    Listen,
    Resume(usize),
    Delete,
}

/// An exchange, as the upstream sees it.
#[derive(Debug)]
struct Exchange {
    kind: Kind,
    session: Option<String>,
    /// The id of the request in it, as JSON.
    id: String,
    /// Which request of the client it is, also for the client's own `initialize`.
    request: Option<usize>,
    begun: bool,
    /// Whether its body can carry messages, and event ids.
    carries: bool,
    events: bool,
    answered: bool,
    /// The session that its head named.
    named: Option<String>,
    generation: usize,
}

/// One connection, and the books about it.
pub struct World {
    pub tag: &'static str,
    pub random: Random,
    bridge: Bridge<()>,
    pub now: Instant,
    /// What happened, when it is wanted.
    pub log: Option<String>,
    stateful: bool,
    faults: bool,

    nonces: u32,
    requests: Vec<Request>,
    /// Requests in flight by id, and those of batches that were refused in part: these may still be answered, once.
    live: BTreeMap<String, usize>,
    loose: BTreeMap<String, usize>,
    /// POSTs without a status: their requests, and how many messages they hold.
    posts: BTreeMap<u64, (Vec<usize>, usize)>,
    last_post: u64,
    /// The client's messages in their order, and where the last one is that was sent.
    posted: Vec<String>,
    sent: BTreeSet<String>,
    sent_upto: usize,

    sessions: BTreeMap<String, Session>,
    exchanges: BTreeMap<CallId, Exchange>,
    closed: Vec<CallId>,
    questions: Vec<Question>,
    /// Questions that the client has not answered, by the id under which it knows them.
    asked: BTreeMap<String, usize>,
    shown: BTreeSet<String>,
    /// Handshakes that were begun, and the last one that succeeded.
    generations: usize,
    current: usize,
    marks: u32,
    /// The exchange that shuts the gate, and since when.
    gate: Option<(CallId, Instant)>,

    /// Notifications that must come out of the present step, in this order.
    due: VecDeque<String>,
    ended: bool,
    finished: bool,
}

impl World {
    pub fn new(tag: &'static str, seed: u64, now: Instant, log: bool) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            max_in_flight: *random.pick(&[2, 128]).unwrap_or(&128),
            request_timeout: Duration::from_secs(*random.pick(&[7, 60, 3600]).unwrap_or(&60)),
            seed,
            ..Settings::default()
        };
        Self {
            tag,
            bridge: Bridge::new(settings, now),
            now,
            log: log.then(String::new),
            stateful: random.percent(75),
            faults: true,
            random,
            nonces: 0,
            requests: Vec::new(),
            live: BTreeMap::new(),
            loose: BTreeMap::new(),
            posts: BTreeMap::new(),
            last_post: 0,
            posted: Vec::new(),
            sent: BTreeSet::new(),
            sent_upto: 0,
            sessions: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            closed: Vec::new(),
            questions: Vec::new(),
            asked: BTreeMap::new(),
            shown: BTreeSet::new(),
            generations: 0,
            current: 0,
            marks: 0,
            gate: None,
            due: VecDeque::new(),
            ended: false,
            finished: false,
        }
    }

    /// One thing happens.
    pub fn step(&mut self) -> Check {
        match self.random.below(100) {
            0..35 => self.client(),
            35..88 => self.upstream(),
            88..92 => {
                let time = self.bridge.poll_timeout();
                let wait = time.map_or(Duration::ZERO, |at| at.saturating_duration_since(self.now));
                self.pass(wait.min(Duration::from_secs(120)))
            }
            92..98 => {
                let millis = u64::try_from(self.random.below(1500)).unwrap_or_default();
                self.pass(Duration::from_millis(millis))
            }
            // A shell that is late calls its timers late.
            98 => {
                self.now += Duration::from_secs(1);
                Ok(())
            }
            _ => self.session_dies(),
        }
    }

    /// From now on the upstream does what it should, and the client only waits: everything must come to its end.
    pub fn calm(&mut self) -> Check {
        self.faults = false;
        let until = self.now + Duration::from_secs(200);
        for _ in 0..3000 {
            if self.bridge.in_flight() == 0 && self.posts.is_empty() {
                return Ok(());
            }
            if !self.upstream_turn()? {
                let Some(at) = self.bridge.poll_timeout() else {
                    return Err("requests are in flight and nothing is awaited".to_owned());
                };
                if at > until {
                    break;
                }
                self.pass(at.saturating_duration_since(self.now))?;
            }
        }
        Err(format!(
            "still in flight with a calm upstream: {:?} {:?}",
            self.live, self.posts
        ))
    }

    /// The connection ends, in one way or another.
    pub fn leave(&mut self) -> Check {
        match self.random.below(4) {
            0 => {
                self.note(|| "> drain".to_owned());
                self.handle(Input::Drain)?;
                for _ in 0..self.random.below(20) {
                    self.step()?;
                }
                self.note(|| "> drain-expired".to_owned());
                self.handle(Input::Expire)?;
            }
            1 if self.live.is_empty() => {
                self.note(|| "> drain".to_owned());
                self.handle(Input::Drain)?;
                if !self.ended && self.bridge.in_flight() == 0 {
                    return Err("nothing is in flight, and the drain is not complete".to_owned());
                }
            }
            _ => {}
        }
        self.note(|| "> gone".to_owned());
        self.handle(Input::ClientGone)?;
        if !self.ended {
            return Err("the stream is not ended".to_owned());
        }
        // An upstream that answers, or one that does not.
        let silent = self.random.percent(30);
        let until = self.now + Duration::from_secs(60);
        for _ in 0..3000 {
            if self.finished {
                return self.after();
            }
            if silent || !self.upstream_turn()? {
                let Some(at) = self.bridge.poll_timeout() else {
                    return Err("the farewell waits for nothing".to_owned());
                };
                if at > until {
                    return Err("the farewell takes longer than a minute".to_owned());
                }
                self.pass(at.saturating_duration_since(self.now))?;
            }
        }
        Err("the farewell does not end".to_owned())
    }

    /// Time passes; the bridge is called when it wants to be.
    pub fn pass(&mut self, time: Duration) -> Check {
        let until = self.now + time;
        let mut calls = 0;
        while let Some(at) = self.bridge.poll_timeout().filter(|at| *at <= until) {
            calls = if at > self.now { 0 } else { calls + 1 };
            if calls > 50 {
                return Err(
                    "handle_timeout at its own time brings the bridge no further".to_owned(),
                );
            }
            self.now = at.max(self.now);
            self.bridge.handle_timeout(self.now);
            self.watch()?;
        }
        self.now = until.max(self.now);
        Ok(())
    }

    fn handle(&mut self, input: Input<()>) -> Check {
        self.bridge.handle(input, self.now);
        self.watch()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{} {}", self.tag, line());
        }
    }

    fn nonce(&mut self) -> String {
        self.nonces += 1;
        format!("{}-{}", self.tag, self.nonces)
    }
}
