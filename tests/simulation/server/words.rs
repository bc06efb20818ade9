//! The messages of the model upstream: notifications, questions, answers, and answers where none was asked for.

use super::jobs::Job;
use crate::books::{Kind, Said};
use crate::world::World;

impl World {
    pub(super) fn notice_text(&mut self, owner: usize) -> (Said, String) {
        let nonce = self.connections[owner].books.nonce();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"n":"{nonce}"}}}}"#
        );
        (Said::Notice(text.clone()), text)
    }

    pub(super) fn notice(&mut self, place: usize) {
        let (said, text) = self.notice_text(self.server.jobs[place].owner);
        self.say(place, said, &text);
    }

    pub(super) fn several(&mut self, place: usize) {
        let owner = self.server.jobs[place].owner;
        let ((one, first), (two, second)) = (self.notice_text(owner), self.notice_text(owner));
        let text = format!("[{first}, {second}]");
        self.say(place, Said::Several(vec![one, two]), &text);
    }

    /// Asks the client. Ids are the session's own; without a session, the server's.
    pub(super) fn ask(&mut self, place: usize) {
        let job = &self.server.jobs[place];
        let (owner, session) = (job.owner, job.session.clone());
        if job.exchange.modern {
            // No request may come from a modern upstream.
            let text = r#"{"jsonrpc":"2.0","id":1,"method":"roots/list"}"#;
            return self.say(place, Said::Noise, text);
        }
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
    pub(super) fn withdraw(&mut self, place: usize) {
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

    /// The answer, as it is due.
    pub(super) fn answer(&mut self, place: usize) {
        let id = self.server.jobs[place].exchange.id.clone();
        let good = !self.faults || self.random.percent(90);
        self.answer_with(place, &id, good);
    }

    pub(super) fn answer_with(&mut self, place: usize, id: &str, good: bool) {
        if self.server.jobs[place].listens() {
            return;
        }
        let (said, text) = self.answer_text(place, id, good);
        self.server.jobs[place].answered = true;
        self.say(place, said, &text);
    }

    pub(super) fn answer_text(&mut self, place: usize, id: &str, good: bool) -> (Said, String) {
        if self.server.jobs[place].exchange.modern {
            return self.modern_answer_text(place, id, good);
        }
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
    pub(super) fn answer_another(&mut self, place: usize) {
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
