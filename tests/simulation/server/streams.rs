//! How a job's words reach whoever listens: written on its outlet, cut, resumed from an event id.

use std::time::Duration;

use mcp_ferry::proto::bridge::{Body, End};

use super::jobs::{Job, Logged};
use crate::books::{Exchange, Kind, Said};
use crate::queue::{Key, Piece};
use crate::world::World;
use crate::writing::Text;

impl World {
    /// Says something: writes it down, where the stream can be resumed, and out, where there is somebody to read.
    pub(super) fn say(&mut self, place: usize, said: Said, text: &str) {
        let logged = self.log(place, said, text);
        if let Some(key) = self.server.jobs[place].outlet {
            let text = self.write(place, &logged);
            self.put(key, text);
        }
    }

    fn log(&mut self, place: usize, said: Said, text: &str) -> Logged {
        // A question said twice would be two questions: it always has its number.
        let numbered = self.server.jobs[place].numbered
            && (matches!(said, Said::Question(_)) || self.random.percent(85));
        let id = numbered.then(|| self.event_id(place));
        let job = &mut self.server.jobs[place];
        job.sequence += 1;
        let logged = Logged {
            sequence: job.sequence,
            id,
            said,
            text: text.to_owned(),
        };
        if job.numbered {
            job.log.push(logged.clone());
        }
        logged
    }

    /// The id of the next event. Its first parts say whose it is; the books know them.
    fn event_id(&self, place: usize) -> String {
        let job = &self.server.jobs[place];
        let request = match (job.exchange.kind, job.exchange.request) {
            (Kind::Request(_), Some(index)) => index.to_string(),
            _ => "-".to_owned(),
        };
        format!("e:{}:{request}:{place}:{}", job.owner, job.sequence + 1)
    }

    fn write(&mut self, place: usize, logged: &Logged) -> Text {
        let retry = self.random.percent(5).then_some(700);
        let job = &mut self.server.jobs[place];
        let (said, id) = (logged.said.clone(), logged.id.as_deref());
        job.style
            .message(said, &logged.text, id, retry, &mut self.random)
    }

    fn put(&mut self, key: Key, text: Text) {
        for piece in text.cut(&mut self.random) {
            self.reply(key, piece);
        }
    }

    pub(super) fn mark(&mut self, place: usize) {
        let id = self.server.jobs[place].numbered.then(|| {
            let id = self.event_id(place);
            self.server.jobs[place].sequence += 1;
            id
        });
        let id = id.filter(|_| self.random.percent(80));
        let retry = *self
            .random
            .pick(&[None, Some(10), Some(3000)])
            .unwrap_or(&None);
        let job = &mut self.server.jobs[place];
        let text = job.style.mark(id.as_deref(), retry, &mut self.random);
        if let Some(key) = job.outlet {
            self.put(key, text);
        }
    }

    /// The connection breaks while something is being said: at any of its bytes.
    pub(super) fn cut(&mut self, place: usize) {
        let Some(key) = self.server.jobs[place].outlet else {
            return;
        };
        let job = &self.server.jobs[place];
        let owner = job.owner;
        let nonce = self.connections[owner].books.nonce();
        let text = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cut","params":{{"n":"{nonce}"}}}}"#
        );
        let logged = self.log(place, Said::Notice(text.clone()), &text);
        let text = self.write(place, &logged);
        let length = self.random.below(text.bytes.len() + 1);
        self.saw("answer cut inside a message");
        self.put(key, text.head(length));
        self.break_off(key);
        // A server does not always notice.
        if self.server.jobs[place].exchange.kind != Kind::Listen || self.random.percent(40) {
            self.lose_outlet(place);
        }
    }

    /// A stream ends, whether or not all was said.
    pub(super) fn close(&mut self, place: usize, end: End) {
        if let Some(key) = self.server.jobs[place].outlet {
            self.reply(key, Piece::End(end, vec![]));
        }
        match self.server.jobs[place].answered {
            true => self.end_job(place),
            false => self.lose_outlet(place),
        }
    }

    /// Nobody listens any more: what can be resumed goes on, anything else is over.
    pub(super) fn lose_outlet(&mut self, place: usize) {
        let job = &mut self.server.jobs[place];
        job.outlet = None;
        if !job.numbered || job.exchange.kind == Kind::Listen {
            job.stop();
        } else if !job.done {
            self.go_on(place, Duration::from_millis(300));
        }
    }

    /// A job is over: its stream, if any, ends.
    pub(super) fn end_job(&mut self, place: usize) {
        let job = &mut self.server.jobs[place];
        let outlet = job.outlet;
        job.stop();
        if let Some(key) = outlet {
            self.reply(key, Piece::End(End::Complete, vec![]));
        }
    }

    /// The client cancelled a request: its jobs end, or go on all the same.
    pub(super) fn stop_jobs(&mut self, owner: usize, exchange: &Exchange) {
        let of_it = |job: &Job| {
            job.owner == owner && job.session == exchange.session && !job.done && !job.answered
        };
        for place in 0..self.server.jobs.len() {
            let kind = self.server.jobs[place].exchange.kind;
            if of_it(&self.server.jobs[place])
                && matches!(kind, Kind::Request(_))
                && self.random.percent(50)
            {
                let index = self.server.jobs[place].exchange.request.unwrap_or_default();
                let request = &self.connections[owner].books.requests[index];
                if request.fate != crate::books::Fate::InFlight {
                    self.end_job(place);
                }
            }
        }
    }

    /// A GET: the session's listen stream, or the rest of a reply stream.
    pub(super) fn on_get(&mut self, key: Key, exchange: &Exchange) {
        if let Kind::Resume(_) = exchange.kind {
            return self.resume(key, exchange);
        }
        let name = exchange.session.as_ref();
        let session = name.and_then(|name| self.server.sessions.get(name));
        let former = session.and_then(|session| session.listen);
        if let Some(former) = former.filter(|it| self.server.jobs[*it].outlet.is_some()) {
            // It has not noticed that the last one is gone.
            if self.random.percent(50) {
                self.saw("second listen stream refused");
                return self.refuse(key, 409, "only one stream");
            }
            self.end_job(former);
        }
        match self.random.below(10) {
            0 => self.refuse(key, 405, ""),
            1 if self.faults => self.refuse(key, 500, ""),
            _ => self.start_job(key, exchange),
        }
    }

    fn resume(&mut self, key: Key, exchange: &Exchange) {
        let id = exchange.last_event_id.as_deref().unwrap_or_default();
        let mut parts = id.split(':').skip(3).map(str::parse::<usize>);
        let (Some(Ok(place)), Some(Ok(sequence))) = (parts.next(), parts.next()) else {
            return self.refuse(key, 400, "no such event");
        };
        if !self.plan.replays {
            match self.random.below(4) {
                0 => return self.refuse(key, 400, "cannot resume"),
                1 => return self.refuse(key, 405, ""),
                2 => {
                    self.begin(key, 200, None, Body::Events);
                    return self.reply(key, Piece::End(End::Complete, vec![]));
                }
                _ => {}
            }
        }
        self.begin(key, 200, None, Body::Events);
        let job = &mut self.server.jobs[place];
        let former = job.outlet.replace(key);
        job.style = crate::writing::Style::new(Body::Events, &mut self.random);
        if let Some(former) = former {
            self.reply(former, Piece::End(End::Complete, vec![]));
        }
        if self.plan.replays {
            let missed: Vec<Logged> = self.server.jobs[place]
                .log
                .iter()
                .filter(|it| it.sequence as usize > sequence)
                .cloned()
                .collect();
            if !missed.is_empty() {
                self.saw("stream resumed with what was missed");
            }
            for logged in missed {
                let text = self.write(place, &logged);
                self.put(key, text);
            }
        }
        let job = &self.server.jobs[place];
        if job.done || job.answered {
            return self.end_job(place);
        }
        self.go_on(place, Duration::from_millis(100));
    }
}
