//! What the model upstream does for one request, and what it says meanwhile.

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
    question: Option<usize>,
    pub log: Vec<Logged>,
    pub sequence: u32,
    pub numbered: bool,
    pub answered: bool,
    pub done: bool,
}

impl Job {
    pub fn stop(&mut self) {
        self.done = true;
        self.outlet = None;
        self.next = None;
    }

    fn listens(&self) -> bool {
        self.exchange.kind == Kind::Listen
    }
}

impl World {
    /// An answer begins.
    pub(super) fn start_job(&mut self, key: Key, exchange: &Exchange) {
        let body = if exchange.kind == Kind::Listen {
            Body::Events
        } else if self.random.percent(self.plan.json) {
            Body::Json
        } else if self.random.percent(self.plan.events) {
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

    fn go_on_later(&mut self, place: usize) {
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
            5 => return self.close(place, End::Complete),
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

    fn notice_text(&mut self, owner: usize) -> (Said, String) {
        let nonce = self.connections[owner].books.nonce();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":"{nonce}"}}}}"#
        );
        (Said::Notice(text.clone()), text)
    }

    fn notice(&mut self, place: usize) {
        let (said, text) = self.notice_text(self.server.jobs[place].owner);
        self.say(place, said, &text);
    }

    fn several(&mut self, place: usize) {
        let owner = self.server.jobs[place].owner;
        let ((one, first), (two, second)) = (self.notice_text(owner), self.notice_text(owner));
        let text = format!("[{first}, {second}]");
        self.say(place, Said::Several(vec![one, two]), &text);
    }

    /// Asks the client. Ids are the session's own; without a session, the server's.
    fn ask(&mut self, place: usize) {
        let job = &self.server.jobs[place];
        let (owner, session) = (job.owner, job.session.clone());
        let known = session.as_ref().map(|it| self.server.sessions.get_mut(it));
        let number = match known {
            Some(None) => return,
            Some(Some(session)) => {
                session.questions += 1;
                session.questions
            }
            None => {
                self.server.questions += 1;
                self.server.questions
            }
        };
        let books = &mut self.connections[owner].books;
        let (question, nonce) = books.question(number.to_string(), session);
        self.server.jobs[place].question = Some(question);
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{number},"method":"sampling/createMessage","params":{{"n":"{nonce}"}}}}"#
        );
        self.say(place, Said::Question(question), &text);
    }

    /// Takes its last question back, answered or not.
    fn withdraw(&mut self, place: usize) {
        let job = &mut self.server.jobs[place];
        let Some(question) = job.question.take() else {
            return;
        };
        let id = &self.connections[job.owner].books.questions[question].id;
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        );
        self.say(place, Said::Withdrawn(question), &text);
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

    /// The answer, as it is due.
    fn answer(&mut self, place: usize) {
        let id = self.server.jobs[place].exchange.id.clone();
        let good = !self.faults || self.random.percent(90);
        self.answer_with(place, &id, good);
    }

    fn answer_with(&mut self, place: usize, id: &str, good: bool) {
        if self.server.jobs[place].listens() {
            return;
        }
        let (said, text) = self.answer_text(place, id, good);
        self.server.jobs[place].answered = true;
        self.say(place, said, &text);
    }

    fn answer_text(&mut self, place: usize, id: &str, good: bool) -> (Said, String) {
        let job = &self.server.jobs[place];
        let books = &mut self.connections[job.owner].books;
        let nonce = match job.exchange.request {
            Some(index) => books.requests[index].nonce.clone(),
            None => books.nonce(),
        };
        let version = match job.exchange.kind {
            Kind::Initialize => {
                r#""protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{}},"#
            }
            _ => "",
        };
        let said = match good {
            true => format!(r#""result":{{{version}"n":"{nonce}"}}"#),
            false => format!(r#""error":{{"code":3,"message":"no","data":{{"n":"{nonce}"}}}}"#),
        };
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#);
        (Said::Answer(id.to_owned(), nonce, good), text)
    }

    /// An answer where it was not asked for: to another job of the same session, or to nothing.
    fn answer_another(&mut self, place: usize) {
        let job = &self.server.jobs[place];
        let owner = job.owner;
        let same = |(at, other): &(usize, &Job)| {
            *at != place
                && other.session.is_some()
                && other.session == job.session
                && job.exchange.kind != Kind::Initialize
                && matches!(other.exchange.kind, Kind::Request(_))
                && !other.done
        };
        let other = self.server.jobs.iter().enumerate().find(same);
        let other = other.and_then(|(at, other)| Some((at, other.exchange.request?)));
        let books = &mut self.connections[owner].books;
        let Some((other, _)) = other.filter(|(_, index)| books.answer_elsewhere(*index)) else {
            let session = self.server.jobs[place].session.as_deref();
            let id = books.id_of_a_newer_session(session);
            let id = id.unwrap_or_else(|| r#""nobody""#.to_owned());
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"n":"c{owner}-0"}}}}"#);
            return self.say(place, Said::Noise, &text);
        };
        let id = self.server.jobs[other].exchange.id.clone();
        self.server.jobs[other].answered = true;
        let (_, text) = self.answer_text(other, &id, true);
        self.say(place, Said::Answer(id, String::new(), true), &text);
    }
}
