//! The model's own books about one connection: what its client posted and what became of it, what the upstream said
//! and asked on it, which sessions were handed out. They are kept from what crosses, read with `serde_json::Value` and
//! not with the code under test, and each entry that breaks an invariant is an error in words.
//!
//! Every message carries a nonce (`"n":"c3-17"`): the connection, and a number there. An answer to the wrong request is
//! noticed even when ids are used again, and a message of another connection even when everything else fits.
//!
//! `records` are the entries, `heard` what the upstream says; `outputs` judges what a bridge asks for, `sent` its exchanges, `after` what must hold when all is over. Of the modern era are `modern`, its
//! requests; `rounds`, what it asks before it answers; `changes`, what it tells unasked.

mod after;
mod changes;
mod heard;
mod modern;
mod outputs;
mod records;
mod rounds;
mod sent;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use mcp_ferry::proto::bridge::CallId;
use serde_json::Value;

use changes::Changes;
pub use changes::{Filter, Offers};
pub use records::{Asks, Does, Exchange, Fate, Kind, Post, Question, Request, Said, Session};
pub use rounds::Round;

/// What is wrong, in words.
pub type Check = Result<(), String>;

#[derive(Debug, Default)]
pub struct Books {
    pub number: usize,
    pub stateful: bool,
    request_timeout: Duration,
    nonces: u32,
    pub requests: Vec<Request>,
    /// Requests in flight by id, and those of batches that were refused in part: these may still be answered, once.
    pub live: BTreeMap<String, usize>,
    loose: BTreeMap<String, usize>,
    by_nonce: BTreeMap<String, usize>,
    /// Notifications that the upstream took.
    taken: BTreeSet<String>,
    /// Ids whose requests were answered elsewhere than on their own exchange: used again, they would be ambiguous.
    burnt: BTreeSet<String>,
    /// POSTs without a status.
    pub posts: BTreeMap<u64, Post>,
    /// The client's messages in their order, and where the last one is that was sent.
    posted: BTreeMap<String, usize>,
    sent: BTreeSet<String>,
    sent_upto: usize,

    pub sessions: BTreeMap<String, Session>,
    pub exchanges: BTreeMap<CallId, Exchange>,
    pub questions: Vec<Question>,
    /// Questions that the client has not answered, by the id under which it knows them.
    pub asked: BTreeMap<String, usize>,
    shown: BTreeSet<String>,
    /// GETs that were sent to listen, and what the client ever subscribed to.
    listens: usize,
    pub subscribed: BTreeSet<String>,
    /// The same as the client knows it now, what the server promises, and what changed; whether the ferry listens at all.
    changes: Changes,
    pub listens_at_all: bool,
    /// The log level that the client set.
    level: Option<String>,
    /// Whether anything was ever said in the modern revision.
    modern: bool,
    /// Requests whose questions were taken back in this step.
    taken_back: Vec<usize>,
    /// Handshakes that were begun, and the last one that succeeded.
    generations: usize,
    /// The nonce of the `initialize` that its client carried here, in quotes.
    recalled: Option<String>,
    current: usize,
    /// The exchange that shuts the gate, and since when.
    gate: Option<(CallId, Instant)>,

    /// What must come out of the present step: notifications in this order, the answer to this request, a cancel of
    /// each of these upstream; and the cancels and the drops that came out of it.
    due: VecDeque<String>,
    owed: Option<usize>,
    cancels: Vec<String>,
    cancelled: Vec<String>,
    drops: Vec<CallId>,
    dropped: Vec<CallId>,
    pub ended: bool,
    pub finished: bool,
    /// Why requests ended in errors of the ferry's own, and what else it said by itself.
    pub reasons: Vec<String>,
    /// What the bridge asked for that somebody else has to act upon.
    pub asks: Vec<Asks>,
}

impl Books {
    pub fn new(number: usize, stateful: bool, request_timeout: Duration) -> Self {
        Self {
            number,
            stateful,
            request_timeout,
            ..Self::default()
        }
    }

    /// The client carries this from an earlier stream: there was a handshake, and what it set then still holds.
    pub fn recalls(&mut self, carried: &[u8]) {
        let carried: Value = serde_json::from_slice(carried).unwrap_or_default();
        self.generations = 1;
        self.level = carried["level"].as_str().map(str::to_owned);
        self.recalled = Some(carried["initialize"]["n"].to_string());
        for uri in carried["subscriptions"].as_array().into_iter().flatten() {
            let uri = uri.as_str().unwrap_or_default();
            self.subscribed.insert(uri.to_owned());
            self.changes.recalls(uri);
        }
    }

    pub fn nonce(&mut self) -> String {
        self.nonces += 1;
        format!("c{}-{}", self.number, self.nonces)
    }

    /// A message of the client, in the order in which it is posted.
    pub fn post_nonce(&mut self) -> String {
        let nonce = self.nonce();
        self.posted.insert(nonce.clone(), self.posted.len());
        nonce
    }

    /// A new request, under the first of few ids that is free: ids are used again.
    pub fn request(&mut self, first: usize, initialize: bool, safe: bool) -> usize {
        let nonce = self.post_nonce();
        let taken = |id: &String| {
            self.live.contains_key(id) || self.loose.contains_key(id) || self.burnt.contains(id)
        };
        let id = (first..).map(|id| id.to_string()).find(|id| !taken(id));
        let id = id.unwrap_or_default();
        self.by_nonce.insert(nonce.clone(), self.requests.len());
        self.requests.push(Request {
            nonce,
            id,
            method: String::new(),
            detail: String::new(),
            pending: false,
            ever: false,
            round: None,
            initialize,
            safe,
            fate: Fate::NotTaken,
            executed: 0,
            promised: false,
            sent_on: None,
            credential: 0,
            since: None,
            mark: None,
        });
        self.requests.len() - 1
    }

    /// The upstream is going to answer a request on another exchange. Says whether that is clear.
    pub fn answer_elsewhere(&mut self, index: usize) -> bool {
        let request = &self.requests[index];
        let clear = self.live.get(&request.id) == Some(&index) && !request.initialize;
        if clear {
            self.burnt.insert(request.id.clone());
        }
        clear
    }

    /// The id of a request that runs on a later session than this one: an answer to it on this one is nobody's.
    pub fn id_of_a_newer_session(&self, session: Option<&str>) -> Option<String> {
        let generation = |name: &str| Some(self.sessions.get(name)?.generation);
        let mine = generation(session?)?;
        let newer = |index: &&usize| {
            let sent_on = self.requests[**index].sent_on.as_ref();
            let other = sent_on.and_then(|name| generation(name.as_deref()?));
            other.is_some_and(|other| other > mine)
        };
        let found = self.live.values().find(newer)?;
        Some(self.requests[*found].id.clone())
    }

    /// A POST reaches the ferry with these requests among its messages.
    pub fn posted(&mut self, post: Post, number: u64) {
        for index in &post.requests {
            let request = &mut self.requests[*index];
            request.fate = Fate::InFlight;
            request.credential = post.credential;
            request.since = Some(post.since);
            self.live.insert(request.id.clone(), *index);
        }
        if let Does::Answers(_, question) = &post.does
            && let Some(index) = self.questions[*question].round
        {
            // The newest credential goes with the call.
            self.requests[index].credential = post.credential;
        }
        self.posts.insert(number, post);
    }

    /// The client cancels what runs under this id. `initialize` may not be cancelled.
    pub fn cancelled(&mut self, id: &str) -> Does {
        let index = self.live.get(id).copied();
        let Some(index) = index.filter(|index| !self.requests[*index].initialize) else {
            return Does::Nothing;
        };
        self.must_be_cancelled(index);
        self.live.remove(id);
        self.requests[index].fate = Fate::Over;
        Does::Cancels(index)
    }

    /// The client answers a question, if that id is one.
    pub fn answers(&mut self, id: &str, nonce: &str, good: bool) -> Does {
        let Some(question) = self.asked.remove(id) else {
            return Does::Nothing;
        };
        self.questions[question].answer = Some(nonce.to_owned());
        self.questions[question].refused = !good;
        Does::Answers(id.to_owned(), question)
    }

    /// A request ends without its answer: the upstream, if it has it, must be told in this very step.
    fn must_be_cancelled(&mut self, index: usize) {
        let runs = |exchange: &Exchange| matches!(exchange.kind, Kind::Request(it) | Kind::Resume(it) if it == index);
        let Some((call, exchange)) = self.exchanges.iter().find(|(_, it)| runs(it)) else {
            return;
        };
        match &exchange.session {
            None => self.drops.push(*call),
            Some(name) => {
                let good = |session: &Session| !session.refused && session.deleted == 0;
                if self.sessions.get(name).is_some_and(good) {
                    self.cancels.push(self.requests[index].id.clone());
                }
            }
        }
    }

    /// The client is gone, as the ferry learns now.
    pub fn gone(&mut self) {
        if self.ended {
            return;
        }
        let running: Vec<usize> = self.live.values().copied().collect();
        for index in running {
            if !self.requests[index].initialize {
                self.must_be_cancelled(index);
            }
        }
    }

    /// The upstream runs a request.
    pub fn execute(&mut self, index: usize) -> Check {
        let request = &mut self.requests[index];
        request.executed += 1;
        request.ever = true;
        if request.promised {
            return Err(format!(
                "{} is executed, and the client was told that it was not",
                request.nonce
            ));
        }
        if request.executed > 1 && !request.safe {
            return Err(format!("{} is executed twice", request.nonce));
        }
        Ok(())
    }

    /// The upstream takes a notification of the client.
    pub fn notify(&mut self, nonce: &str) -> Check {
        match self.taken.insert(nonce.to_owned()) {
            true => Ok(()),
            false => Err(format!("the notification {nonce} arrives twice")),
        }
    }

    /// A new question of the upstream. It has not reached the ferry yet.
    pub fn question(&mut self, id: String, session: Option<String>) -> (usize, String) {
        let nonce = self.nonce();
        self.questions.push(Question {
            nonce: nonce.clone(),
            id,
            session,
            generation: 0,
            answer: None,
            refused: false,
            round: None,
            answered: 0,
            tried: false,
            withdrawn: false,
        });
        (self.questions.len() - 1, nonce)
    }

    /// An exchange is over, by a reply of this kind or because it was dropped.
    pub fn closed(&mut self, call: CallId) -> Option<Exchange> {
        self.open_gate(call);
        self.exchanges.remove(&call)
    }

    /// An exchange did not leave: the answer in it may be sent again.
    pub fn unreached(&mut self, exchange: &Exchange) {
        match exchange.kind {
            Kind::Answer(question) => self.questions[question].answered -= 1,
            Kind::Request(index) => self.requests[index].pending = false,
            _ => {}
        }
    }

    pub fn open_gate(&mut self, call: CallId) {
        self.gate = self.gate.filter(|(shut, _)| *shut != call);
    }

    /// Whether nothing is waited for any more.
    pub fn is_quiet(&self) -> bool {
        self.live.is_empty() && self.loose.is_empty() && self.posts.is_empty()
    }

    /// How long `notifications/initialized` may hold others up.
    const GATE: Duration = Duration::from_secs(30);
    /// How long a POST may be held, `initialize` being the longest.
    const HOLD: Duration = Duration::from_secs(3);
    /// How late a timer may be.
    const LATE: Duration = Duration::from_secs(1);
}
