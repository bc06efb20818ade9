//! All of it: the connections, the upstream, the time, and what happens in which order.
//!
//! First comes the storm, with all faults of the plan; then, mostly, a calm in which everything in flight must come to
//! its end; then every client leaves, and nothing may stay open.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mcp_ferry::proto::bridge::Input;
use mcp_ferry::proto::era::Era;

use crate::books::Check;
use crate::ferry::Connection;
use crate::plan::Plan;
use crate::queue::{Event, Queue};
use crate::random::Random;
use crate::server::Server;

/// Within this time a calm upstream has answered everything, waits and repetitions included.
const CALM: Duration = Duration::from_secs(400);
/// Within this time a farewell is over, whatever the upstream does.
const FAREWELL: Duration = Duration::from_secs(60);
/// Within this time everything that is on its way arrives.
const ARRIVAL: Duration = Duration::from_secs(10);
/// Connections of one seed, those that came back included.
const MAX_CONNECTIONS: usize = 24;

pub struct World {
    pub random: Random,
    pub plan: Plan,
    pub now: Instant,
    began: Instant,
    pub queue: Queue,
    pub connections: Vec<Connection>,
    pub server: Server,
    /// What the ferry learnt last of the upstream's era.
    pub learnt: Option<Era>,
    /// What a client was given last to carry.
    pub carried: Option<Bytes>,
    /// Whether the upstream does things wrong; whether clients act of their own accord.
    pub faults: bool,
    pub storm: bool,
    /// Whether the ferry was told to stop.
    pub drained: bool,
    silent: bool,
    /// Events so far, and how often what is worth knowing happened among them.
    pub events: u64,
    pub seen: BTreeMap<String, u64>,
    /// What happened, when it is wanted.
    pub log: Option<String>,
}

impl World {
    pub fn new(seed: u64, now: Instant, log: bool) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let modern = plan.modern;
        Self {
            random,
            log: log.then(|| format!("{plan:?}\n")),
            plan,
            now,
            began: now,
            queue: Queue::default(),
            connections: Vec::new(),
            server: Server::new(modern),
            learnt: None,
            carried: None,
            faults: true,
            storm: true,
            drained: false,
            silent: false,
            events: 0,
            seen: BTreeMap::new(),
        }
    }

    /// A whole seed. An error names the connection.
    pub fn run(&mut self) -> Check {
        self.schedule();
        let end = self.now + self.plan.storm;
        self.until(end, |_| false)?;
        self.storm = false;
        if self.plan.calm {
            self.calm()?;
        }
        self.leave()
    }

    fn schedule(&mut self) {
        let storm = u64::try_from(self.plan.storm.as_millis()).unwrap_or(1);
        let some_time = |random: &mut Random| Duration::from_millis(random.next() % storm);
        for _ in 0..self.plan.clients {
            let at = self.now + some_time(&mut self.random) / 4;
            self.queue.push(at, Event::Connects(false));
        }
        for _ in 0..self.plan.restarts {
            let at = self.now + some_time(&mut self.random);
            self.queue.push(at, Event::Restarts);
        }
        for _ in 0..self.plan.flips {
            let at = self.now + some_time(&mut self.random);
            self.queue.push(at, Event::Flips);
        }
        for _ in 0..self.plan.changes {
            let at = self.now + some_time(&mut self.random);
            self.queue.push(at, Event::Changes);
        }
        for _ in 0..self.plan.forgets {
            let at = self.now + some_time(&mut self.random);
            self.queue.push(at, Event::Forgets);
        }
        if let Some((at, time)) = self.plan.drain {
            self.queue.push(self.now + at, Event::Drains);
            self.queue.push(self.now + at + time, Event::DrainExpires);
        }
    }

    fn calm(&mut self) -> Check {
        self.note(usize::MAX, || "calm".to_owned());
        self.faults = false;
        for number in 0..self.connections.len() {
            self.on_reads(number).map_err(|why| named(number, &why))?;
        }
        self.calm_down();
        self.answer_all();
        let still = |it: &Connection| it.books.is_quiet() && it.books.listens_rightly();
        let quiet = |world: &Self| world.connections.iter().all(still);
        let (half, end) = (self.now + CALM / 2, self.now + CALM);
        if !self.until(half, quiet)? {
            // An answer may have met a full queue at the end of the storm.
            self.answer_all();
        }
        if self.until(end, quiet)? {
            return self.changes_in_the_calm();
        }
        let noisy = self.connections.iter().find(|it| !still(it));
        let books = noisy.map(|it| &it.books);
        let books = books.map(|it| (it.number, &it.live, &it.posts, it.listening()));
        Err(format!("still in flight with a calm upstream: {books:?}"))
    }

    /// Everything changes once more: it reaches everybody who subscribed to it.
    fn changes_in_the_calm(&mut self) -> Check {
        self.all_is_heard()?;
        for uri in 0..3 {
            self.resource_changes(uri);
        }
        self.all_is_heard()
    }

    /// Everything has arrived. A handshake that nobody waits for any more may take several exchanges, one after the other.
    fn all_is_heard(&mut self) -> Check {
        self.until(self.now + ARRIVAL, |_| false)?;
        self.until(self.now + CALM, |world| {
            let mut connections = world.connections.iter();
            connections.all(|it| it.gone || it.books.left_open().is_none())
        })?;
        self.each(|world, number| world.connections[number].books.heard_of_changes())
    }

    /// Every client leaves, in one way or another.
    fn leave(&mut self) -> Check {
        self.note(usize::MAX, || "leave".to_owned());
        self.silent = self.plan.silent;
        let expected = self.sessions_in_use();
        for number in 0..self.connections.len() {
            self.leaves(number).map_err(|why| named(number, &why))?;
        }
        let over = |world: &Self| world.connections.iter().all(|it| it.books.finished);
        let end = self.now + FAREWELL;
        let over = self.until(end, over)?;
        for (number, connection) in self.connections.iter().enumerate() {
            if !over && !connection.books.finished {
                return Err(named(number, "the farewell takes longer than a minute"));
            }
            let after = connection.books.after(&connection.bridge);
            after.map_err(|why| named(number, &why))?;
        }
        if self.silent {
            return Ok(());
        }
        self.until(self.now + ARRIVAL, |_| false)?;
        self.after_all(&expected)
    }

    fn leaves(&mut self, number: usize) -> Check {
        if self.connections[number].gone {
            return Ok(());
        }
        match self.random.below(5) {
            0 => {
                self.drain(number)?;
                self.note(number, || "> drain-expired".to_owned());
                self.input(number, Input::Expire)
            }
            1 if self.connections[number].bridge.in_flight() == 0 => self.drain(number),
            2 => {
                self.on_ages(number)?;
                self.note(number, || "> too old".to_owned());
                self.input(number, Input::Expire)
            }
            _ => {
                self.note(number, || "> gone".to_owned());
                self.goes(number)
            }
        }
    }

    fn drain(&mut self, number: usize) -> Check {
        self.note(number, || "> drain".to_owned());
        self.input(number, Input::Drain)?;
        let connection = &self.connections[number];
        if !connection.books.ended && connection.bridge.in_flight() == 0 {
            return Err("nothing is in flight, and the drain is not complete".to_owned());
        }
        Ok(())
    }

    /// The stream is old: it ends as soon as nothing is in flight.
    fn on_ages(&mut self, number: usize) -> Check {
        if self.connections[number].gone {
            return Ok(());
        }
        self.note(number, || "> old".to_owned());
        self.input(number, Input::Retire)?;
        let connection = &self.connections[number];
        if !connection.books.ended && connection.bridge.in_flight() == 0 {
            return Err("nothing is in flight, and an old stream goes on".to_owned());
        }
        Ok(())
    }

    /// Lets things happen until that time, or until `enough`. Says whether it was enough.
    fn until(&mut self, end: Instant, enough: impl Fn(&Self) -> bool) -> Result<bool, String> {
        loop {
            if enough(self) {
                return Ok(true);
            }
            let Some((at, event)) = self.queue.pop(end) else {
                self.now = end;
                return Ok(false);
            };
            self.now = at.max(self.now);
            self.events += 1;
            self.happens(event)?;
        }
    }

    fn happens(&mut self, event: Event) -> Check {
        match event {
            Event::Reaches(_) | Event::Works(..) if self.silent => Ok(()),
            Event::Restarts => {
                self.on_restarts();
                Ok(())
            }
            Event::Flips => {
                self.on_flips();
                Ok(())
            }
            Event::Changes => {
                if self.storm {
                    self.on_changes();
                }
                Ok(())
            }
            Event::Started => {
                self.server.up = true;
                Ok(())
            }
            Event::Forgets => {
                if self.storm {
                    self.on_forgets();
                }
                Ok(())
            }
            Event::Works(place, at) => {
                self.on_works(place, at);
                Ok(())
            }
            Event::Dropped(key) => {
                self.on_dropped(key);
                Ok(())
            }
            Event::Drains | Event::DrainExpires if !self.storm => Ok(()),
            Event::Drains => {
                self.drained = true;
                self.each(Self::drain)
            }
            Event::DrainExpires => self.each(|world, number| {
                world.note(number, || "> drain-expired".to_owned());
                if world.connections[number].bridge.in_flight() > 0 {
                    world.saw("drain expired with requests in flight");
                }
                world.input(number, Input::Expire)
            }),
            Event::Connects(_) if self.connections.len() >= MAX_CONNECTIONS => Ok(()),
            Event::Connects(returns) => {
                if returns {
                    self.saw("client came back");
                }
                self.on_connects(returns)
            }
            Event::Reaches(key) => self.on_reaches(key).map_err(|why| named(key.0, &why)),
            Event::Acts(number) => self.of(number, Self::on_acts),
            Event::Confirms(number) => self.of(number, Self::on_confirms),
            Event::Ages(number) => self.of(number, Self::on_ages),
            Event::Reads(number) => self.of(number, Self::on_reads),
            Event::Stalls(number) => self.of(number, Self::on_stalls),
            Event::Arrives(number, text) => {
                self.of(number, |world, number| world.on_arrives(number, &text))
            }
            Event::Answers(number, id) => {
                self.of(number, |world, number| world.on_answers(number, &id))
            }
            Event::Timer(number, at) => self.of(number, |world, number| world.on_timer(number, at)),
            Event::Piece((number, call), piece) => {
                self.of(number, |world, number| world.on_piece(number, call, piece))
            }
        }
    }

    fn of(&mut self, number: usize, act: impl FnOnce(&mut Self, usize) -> Check) -> Check {
        act(self, number).map_err(|why| named(number, &why))
    }

    fn each(&mut self, act: impl Fn(&mut Self, usize) -> Check) -> Check {
        (0..self.connections.len()).try_for_each(|number| match self.connections[number].gone {
            true => Ok(()),
            false => self.of(number, &act),
        })
    }

    pub fn latency(&mut self) -> Duration {
        self.plan.latency(&mut self.random)
    }

    /// Counts something, so that a simulation in which it never happens is noticed.
    pub fn saw(&mut self, what: &str) {
        match self.seen.get_mut(what) {
            Some(count) => *count += 1,
            None => {
                self.seen.insert(what.to_owned(), 1);
            }
        }
    }

    /// A line for the log, of a connection or of the upstream.
    pub fn note(&mut self, number: usize, line: impl FnOnce() -> String) {
        let time = self.now.duration_since(self.began).as_secs_f64();
        if let Some(log) = &mut self.log {
            let name = match number {
                usize::MAX => "upstream".to_owned(),
                number => format!("c{number}"),
            };
            let _ = writeln!(log, "{time:>10.6} {name:<8} {}", line());
        }
    }
}

fn named(number: usize, why: &str) -> String {
    format!("connection {number}: {why}")
}
