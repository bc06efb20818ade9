//! The model upstream: one server for all connections, so that a crossing would show. It keeps its sessions by id and
//! runs each request as a job, which says things over time on whatever exchange listens to it at the moment.
//!
//! `refusals` is what it does wrong before it answers, `jobs` what it does, `words` what it says, `streams` how that is
//! written and resumed. `modern` is what it is like in the modern era, `eras` how it meets the other one.

mod eras;
mod jobs;
mod modern;
mod refusals;
mod streams;
mod words;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcp_ferry::proto::bridge::{Body, End};

use crate::books::{Check, Exchange, Kind};
use crate::queue::{Event, Key, Piece};
use crate::world::World;
pub use jobs::Job;

/// An exchange as the upstream sees it. It outlives the ferry's interest in it.
#[derive(Debug)]
pub struct Link {
    exchange: Exchange,
    /// When the last part of the answer arrives that is on its way.
    last: Instant,
    reached: bool,
    begun: bool,
    closed: bool,
}

/// A session that the server knows.
#[derive(Debug)]
struct Session {
    owner: usize,
    /// Ids of its own requests: the same in each session, so that a mix-up would show.
    questions: u32,
    /// The job behind its listen stream.
    listen: Option<usize>,
}

#[derive(Debug)]
pub struct Server {
    pub up: bool,
    /// Its era, and how often its tools changed.
    modern: bool,
    tools: u32,
    pub links: BTreeMap<Key, Link>,
    sessions: BTreeMap<String, Session>,
    jobs: Vec<Job>,
    names: u32,
    questions: u32,
}

impl Link {
    pub fn new(exchange: Exchange, now: Instant) -> Self {
        Self {
            exchange,
            last: now,
            reached: false,
            begun: false,
            closed: false,
        }
    }
}

impl Server {
    pub fn new(modern: bool) -> Self {
        Self {
            up: true,
            modern,
            tools: 0,
            links: BTreeMap::new(),
            sessions: BTreeMap::new(),
            jobs: Vec::new(),
            names: 0,
            questions: 0,
        }
    }
}

impl World {
    /// A part of an answer leaves for the ferry. The parts of one answer arrive in their order.
    fn reply(&mut self, key: Key, piece: Piece) {
        let at = self.now + self.latency();
        let Some(link) = self.server.links.get_mut(&key).filter(|link| !link.closed) else {
            return;
        };
        link.last = link.last.max(at);
        link.begun |= matches!(piece, Piece::Head { .. });
        link.closed = matches!(piece, Piece::End(..) | Piece::Refused(..));
        self.queue.push(link.last, Event::Piece(key, piece));
    }

    fn begin(&mut self, key: Key, status: u16, session: Option<String>, body: Body) {
        let head = Piece::Head {
            status,
            session,
            body,
        };
        self.reply(key, head);
    }

    /// An answer without messages.
    fn accept(&mut self, key: Key, status: u16) {
        self.begin(key, status, None, Body::Other);
        self.reply(key, Piece::End(End::Complete, vec![]));
    }

    /// The connection of an exchange breaks.
    fn break_off(&mut self, key: Key) {
        let begun = self.server.links.get(&key).is_some_and(|link| link.begun);
        let end = match begun {
            true => End::Cut("reset".to_owned()),
            false => End::Lost("reset".to_owned()),
        };
        self.reply(key, Piece::End(end, vec![]));
    }

    /// An exchange reaches the upstream.
    pub fn on_reaches(&mut self, key: Key) -> Check {
        let Some(link) = self.server.links.get_mut(&key) else {
            return Ok(());
        };
        link.reached = true;
        let exchange = link.exchange.clone();
        if !self.server.up {
            let end = End::Unreached("connection refused".to_owned());
            self.reply(key, Piece::End(end, vec![]));
            self.saw("connection refused");
            return Ok(());
        }
        if exchange.modern != self.server.modern && !self.plan.dual {
            self.refuse_other_era(key, &exchange);
            return Ok(());
        }
        if let Some(name) = &exchange.session {
            match self.server.sessions.get(name) {
                Some(session) if session.owner != key.0 => {
                    return Err(format!("{name} is of another connection: {exchange:?}"));
                }
                Some(_) => {}
                None => {
                    self.saw("session unknown");
                    self.refuse_session(key);
                    return Ok(());
                }
            }
        }
        if self.faults && self.random.percent(self.plan.failures) {
            return self.fail(key, &exchange);
        }
        if exchange.modern {
            return self.on_modern(key, &exchange);
        }
        match exchange.kind {
            Kind::Initialize | Kind::Request(_) | Kind::Restore => {
                if exchange.kind == Kind::Restore {
                    self.saw("level or subscription restored");
                }
                if let Some(index) = exchange.request {
                    self.execute(key.0, index)?;
                }
                self.start_job(key, &exchange);
            }
            Kind::Initialized | Kind::Notice => {
                if exchange.kind == Kind::Notice {
                    self.connections[key.0].books.notify(&exchange.id)?;
                }
                let status = *self.random.pick(&[202, 202, 204, 200]).unwrap_or(&202);
                self.accept(key, status);
            }
            Kind::Cancel => {
                self.stop_jobs(key.0, &exchange);
                self.accept(key, 202);
            }
            Kind::Answer(question) => {
                self.accept(key, 202);
                self.answered(key.0, question);
            }
            Kind::Listen | Kind::Resume(_) => self.on_get(key, &exchange),
            Kind::Delete => self.end_session(key, &exchange),
            Kind::Discover | Kind::ListTools | Kind::Subscriptions | Kind::Served => {
                return Err(format!("not of the handshake era: {exchange:?}"));
            }
        }
        Ok(())
    }

    /// The upstream runs a request of the client.
    fn execute(&mut self, number: usize, index: usize) -> Check {
        self.connections[number].books.execute(index)
    }

    fn end_session(&mut self, key: Key, exchange: &Exchange) {
        if self.faults && self.random.percent(10) {
            return self.refuse(key, 405, "");
        }
        if let Some(name) = &exchange.session {
            self.forget(name);
        }
        self.accept(key, 200);
    }

    /// A session is over, and everything that runs on it.
    fn forget(&mut self, name: &str) {
        self.server.sessions.remove(name);
        for place in 0..self.server.jobs.len() {
            if self.server.jobs[place].session.as_deref() == Some(name) {
                self.end_job(place);
            }
        }
    }

    /// One session is forgotten. What runs on it may go on to its end.
    pub fn on_forgets(&mut self) {
        let names: Vec<String> = self.server.sessions.keys().cloned().collect();
        let Some(name) = self.random.pick(&names).cloned() else {
            return;
        };
        self.note(usize::MAX, || format!("{name} is forgotten"));
        match self.random.percent(50) {
            true => self.forget(&name),
            false => {
                self.server.sessions.remove(&name);
            }
        }
    }

    /// All sessions are lost, every connection breaks, and nobody listens for a while.
    pub fn on_restarts(&mut self) {
        if !self.storm {
            return;
        }
        self.note(usize::MAX, || "restarts".to_owned());
        self.saw("restart");
        self.all_is_lost();
        self.server.up = false;
        let time = *self.random.pick(&[50, 1000, 6000]).unwrap_or(&0);
        let at = self.now + Duration::from_millis(time);
        self.queue.push(at, Event::Started);
    }

    fn all_is_lost(&mut self) {
        self.server.sessions.clear();
        for job in &mut self.server.jobs {
            job.stop();
        }
        let open = self.server.links.iter();
        let open = open.filter(|(_, link)| link.reached && !link.closed);
        for key in open.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.break_off(key);
        }
    }

    /// The upstream learns that the ferry dropped an exchange.
    pub fn on_dropped(&mut self, key: Key) {
        if let Some(link) = self.server.links.get_mut(&key) {
            link.closed = true;
        }
        let of_it = |job: &Job| job.outlet == Some(key);
        if let Some(place) = self.server.jobs.iter().position(of_it) {
            self.lose_outlet(place);
        }
    }

    /// The sessions that nobody has tried to end yet, if nothing goes wrong any more.
    pub fn sessions_in_use(&self) -> Vec<String> {
        let used = |(name, session): &(&String, &Session)| {
            let session = &self.connections[session.owner].books.sessions[*name];
            !self.faults && session.adopted && !session.refused && session.deleted == 0
        };
        let used = self.server.sessions.iter().filter(used);
        used.map(|(name, _)| name.clone()).collect()
    }

    /// What must hold at the upstream when all connections are over and everything has arrived: no exchange is open,
    /// and none of these sessions is left.
    pub fn after_all(&self, sessions: &[String]) -> Check {
        let open = |link: &&Link| link.reached && !link.closed;
        if let Some(link) = self.server.links.values().find(open) {
            return Err(format!("nobody waits for this any more: {link:?}"));
        }
        let left = |name: &&String| self.server.sessions.contains_key(*name);
        match sessions.iter().find(left) {
            Some(name) => Err(format!("the upstream still has {name}")),
            None => Ok(()),
        }
    }

    /// From now on the upstream does what it should: it goes on with all that it stopped at.
    pub fn calm_down(&mut self) {
        self.server.up = true;
        for place in 0..self.server.jobs.len() {
            if self.server.jobs[place].outlet.is_some() {
                self.go_on(place, Duration::from_millis(1));
            } else {
                self.server.jobs[place].stop();
            }
        }
    }
}
