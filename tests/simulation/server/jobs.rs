//! What the model upstream does for one request, and what it says meanwhile.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mcp_ferry::proto::bridge::{Body, End};

use crate::books::{Exchange, Kind, Said};
use crate::queue::{Event, Key, Piece};
use crate::world::World;
use crate::writing::Style;

/// Something that was said, to be said again to who resumes.
#[derive(Clone, Debug)]
pub struct Logged {
    pub sequence: u32,
    pub id: Option<String>,
    pub said: Said,
    pub text: String,
}

/// A request under way, or a session's listen stream.
#[derive(Debug)]
pub struct Job {
    pub owner: usize,
    /// What it is the answer to; of a listen stream, nothing.
    pub exchange: Exchange,
    pub session: Option<String>,
    /// Where it is listened to.
    pub outlet: Option<Key>,
    pub style: Style,
    /// How much it says before its answer.
    steps: usize,
    /// When it goes on.
    next: Option<Instant>,
    /// The question that it waits for.
    pub question: Option<usize>,
    pub log: Vec<Logged>,
    pub sequence: u32,
    pub numbered: bool,
    pub answered: bool,
    /// Of a stream for changes: the resources that it carries, once that is said.
    pub honoured: Option<BTreeSet<String>>,
    pub done: bool,
}

impl Job {
    pub fn stop(&mut self) {
        self.done = true;
        self.outlet = None;
        self.next = None;
    }

    pub fn listens(&self) -> bool {
        matches!(self.exchange.kind, Kind::Listen | Kind::Subscriptions)
    }

    /// Whether it is a stream for changes that is not acknowledged yet.
    fn is_new_to_listening(&self) -> bool {
        self.exchange.kind == Kind::Subscriptions && self.honoured.is_none()
    }
}

impl World {
    /// An answer begins.
    pub(super) fn start_job(&mut self, key: Key, exchange: &Exchange) {
        let body = if matches!(exchange.kind, Kind::Listen | Kind::Subscriptions) {
            Body::Events
        } else if self.random.percent(self.plan.json) {
            Body::Json
        } else if exchange.modern || self.random.percent(self.plan.events) {
            Body::Events
        } else {
            Body::Lines
        };
        let mut session = exchange.session.clone();
        let mut named = None;
        if exchange.kind == Kind::Initialize && self.plan.stateful {
            named = Some(self.new_session(key.0, exchange.generation));
            session.clone_from(&named);
        }
        let style = Style::new(body, &mut self.random);
        let numbered = self.plan.numbers && body == Body::Events && exchange.session.is_some();
        self.server.jobs.push(Job {
            owner: key.0,
            exchange: exchange.clone(),
            session,
            outlet: Some(key),
            style,
            steps: self.random.below(4),
            next: None,
            question: None,
            log: Vec::new(),
            sequence: 0,
            numbered,
            answered: false,
            honoured: None,
            done: false,
        });
        let place = self.server.jobs.len() - 1;
        if exchange.kind == Kind::Listen {
            let name = exchange.session.as_ref();
            if let Some(session) = name.and_then(|name| self.server.sessions.get_mut(name)) {
                session.listen = Some(place);
            }
        }
        self.begin(key, 200, named, body);
        self.go_on_later(place);
    }

    fn new_session(&mut self, owner: usize, generation: usize) -> String {
        self.server.names += 1;
        let name = format!("s{}", self.server.names);
        let session = super::Session {
            owner,
            questions: 0,
            listen: None,
        };
        self.server.sessions.insert(name.clone(), session);
        let session = crate::books::Session {
            generation,
            adopted: false,
            refused: false,
            deleted: 0,
            mark: None,
        };
        let books = &mut self.connections[owner].books;
        books.sessions.insert(name.clone(), session);
        name
    }

    pub(super) fn go_on(&mut self, place: usize, wait: Duration) {
        let at = self.now + wait;
        self.server.jobs[place].next = Some(at);
        self.queue.push(at, Event::Works(place, at));
    }

    pub(super) fn go_on_later(&mut self, place: usize) {
        let millis = match self.random.below(20) {
            _ if !self.faults => 20,
            0..10 => 5,
            10..16 => 200,
            16..19 => 4_000,
            _ => 70_000,
        };
        let wait = Duration::from_millis(self.random.next() % millis);
        self.go_on(place, wait);
    }

    /// A job goes on.
    pub fn on_works(&mut self, place: usize, at: Instant) {
        let job = &mut self.server.jobs[place];
        if job.done || job.next != Some(at) {
            return;
        }
        job.next = None;
        if job.is_new_to_listening() {
            return self.acknowledge(place);
        }
        if job.listens() && !self.faults {
            return;
        }
        if !self.faults || job.style.body == Body::Json {
            return self.finish(place);
        }
        if job.answered {
            self.behind_the_answer(place);
        } else if self.random.percent(self.plan.mischief) {
            self.mischief(place);
        } else {
            self.step(place);
        }
    }

    fn step(&mut self, place: usize) {
        match self.random.below(10) {
            0..4 => self.notice(place),
            4..6 => {
                self.ask(place);
                if self.random.percent(50) {
                    // It waits for the answer, but not for ever.
                    return self.go_on(place, Duration::from_secs(20));
                }
            }
            6 => self.mark(place),
            _ if self.server.jobs[place].listens() => {}
            _ if self.server.jobs[place].steps == 0 => return self.finish(place),
            _ => self.server.jobs[place].steps -= 1,
        }
        self.go_on_later(place);
    }

    fn behind_the_answer(&mut self, place: usize) {
        match self.random.below(10) {
            0 => self.answer(place),
            1 => self.notice(place),
            2 => self.answer_another(place),
            _ => return self.close(place, End::Complete),
        }
        self.go_on_later(place);
    }

    fn mischief(&mut self, place: usize) {
        match self.random.below(14) {
            0 => self.say(place, Said::Noise, "no message"),
            1 => {
                let large = format!(r#"{{"n":"{}"}}"#, "x".repeat(self.plan.max_message));
                self.say(place, Said::Noise, &large);
            }
            2 => self.answer_another(place),
            3 => self.withdraw(place),
            4 => self.several(place),
            5 => return self.stop_listening(place),
            6..=8 => return self.cut(place),
            // It goes on when the upstream calms down.
            9 => return,
            11 if self.random.percent(3) => (0..300).for_each(|_| self.ask(place)),
            10 => self.answer_with(place, "null", false),
            _ => self.mark(place),
        }
        self.go_on_later(place);
    }

    /// The answer, and mostly the end.
    fn finish(&mut self, place: usize) {
        let job = &self.server.jobs[place];
        if job.listens() {
            return self.close(place, End::Complete);
        }
        if job.style.body == Body::Json {
            return self.finish_json(place);
        }
        if !self.server.jobs[place].answered {
            self.answer(place);
        }
        match self.faults && self.random.percent(30) {
            true => self.go_on_later(place),
            false => self.close(place, End::Complete),
        }
    }

    fn finish_json(&mut self, place: usize) {
        let id = self.server.jobs[place].exchange.id.clone();
        let good = !self.faults || self.random.percent(90);
        let (said, text) = self.answer_text(place, &id, good);
        let Some(key) = self.server.jobs[place].outlet else {
            return;
        };
        self.server.jobs[place].stop();
        let (said, text) = if self.faults && self.random.percent(10) {
            let (notice, first) = self.notice_text(key.0);
            (
                Said::Several(vec![notice, said]),
                format!("[{first},{text}]"),
            )
        } else {
            (said, text)
        };
        let text = format!(" {text}\r\n").into_bytes();
        if self.faults && self.random.percent(self.plan.mischief / 5) {
            let length = self.random.below(text.len());
            self.reply(key, Piece::Bytes(text[..length].to_vec(), vec![]));
            return self.break_off(key);
        }
        let at = self.random.below(text.len());
        self.reply(key, Piece::Bytes(text[..at].to_vec(), vec![]));
        self.reply(key, Piece::Bytes(text[at..].to_vec(), vec![]));
        self.reply(key, Piece::End(End::Complete, vec![said]));
    }

    /// A client's answer has come: who waited for it goes on.
    pub(super) fn answered(&mut self, owner: usize, question: usize) {
        let waits = |job: &Job| job.owner == owner && job.question == Some(question);
        if let Some(place) = self.server.jobs.iter().position(waits)
            && self.server.jobs[place].next.is_some()
        {
            self.go_on_later(place);
        }
    }
}
