//! The bridge: the pure state machine that translates one legacy connection.
//!
//! One connection of a client (`GET /sse`, its POSTs) is one [`Bridge`]. The shell feeds it [`Input`]s and the time,
//! and carries out its [`Output`]s; that is all they share. The bridge may not touch a socket, a clock, a task or a
//! source of randomness, so every rule can be read as a transcript and every interleaving can be tried.
//!
//! What it holds is the connection's ledger (`ledger`): each request that was accepted and has had no outcome, each
//! request of the upstream that the client has not answered, each exchange that is open upstream. The invariants are
//! those of the crate's documentation: one outcome per request (I1, I2), executed at most once (I3), the upstream's
//! order (I5), no silence towards the upstream (I6), nothing shared between connections (I7).
//!
//! | file | what it holds |
//! | --- | --- |
//! | `vocabulary` | inputs and outputs |
//! | `settings` | what is known beforehand |
//! | `ledger` | one request in flight |
//! | `calls` | one exchange with the upstream, and why it was begun |
//! | `client` | what the client posts: admission, the hold for the upstream's status, cancels |
//! | `handshake` | the handshake era: initialize, the gate behind it, sessions and their loss |
//! | `replies` | what the upstream answers: heads and messages |
//! | `ends` | how exchanges end: refusals, broken streams, resumption, attempts to connect |
//! | `modern` | the modern era: `server/discover`, requests without a session, what the upstream asks back |
//! | `listen` | the stream for what the upstream sends unasked |
//! | `leave` | the end: drain, farewell, DELETE |
//! | `restore` | what a new session is told because the lost one knew it |
//! | `carried` | what a client carries to its next stream, so that a new handshake is its own |
//! | `missed` | what is said to a client that may have missed a notification |
//! | `trouble` | the errors that the ferry makes itself |

mod calls;
mod carried;
mod client;
mod ends;
mod handshake;
mod leave;
mod ledger;
mod listen;
mod missed;
mod modern;
mod replies;
mod restore;
mod settings;
mod trouble;
mod vocabulary;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::proto::era::Era;
use crate::proto::jsonrpc::Id;
use calls::{Call, LINGER, Notice, Purpose, Queued};
pub use carried::{Carried, MAX_CARRIED};
use ends::Again;
use handshake::{Phase, Session};
use leave::{ClientState, Leaving};
use ledger::{Place, Request};
use listen::Listen;
use modern::Modern;
pub use modern::rounds::{MAX_QUESTIONS, MAX_ROUNDS};
use restore::Remembered;
pub use settings::Settings;
use trouble::{Executed, Trouble};
pub use vocabulary::{
    About, Answer, Body, CallId, Cause, Counted, End, Exchange, Input, Mirrored, Output, PostId,
    Posted, Refusal, Reply, Verb,
};

/// Requests of the upstream that wait for the client's answer; one more is answered with an error.
pub const MAX_ASKED: usize = 256;
/// Notifications and answers of the client that wait behind a handshake or for the upstream; one more POST gets 503.
pub const MAX_NOTICES: usize = 256;
/// A POST of the client that is held for the upstream's status.
#[derive(Debug)]
struct Held {
    until: Instant,
    credential: u64,
}

/// A request to the client that it has yet to answer.
#[derive(Debug)]
enum Asked {
    /// The upstream's own.
    Upstream {
        /// The upstream's id, as it was written.
        id: Box<str>,
        key: Id,
        generation: u32,
    },
    /// A modern upstream's question before it answers this request.
    Round(Id),
}

impl Asked {
    /// Whether it ends with the session of that handshake.
    fn is_of(&self, of: u32) -> bool {
        matches!(self, Self::Upstream { generation, .. } if *generation == of)
    }
}

/// The state machine of one connection.
#[derive(Debug)]
pub struct Bridge<C> {
    settings: Settings,
    now: Instant,
    outputs: VecDeque<Output<C>>,
    last_call: u64,
    random: u64,

    held: BTreeMap<PostId, Held>,
    /// The credential that the upstream took last; `None` before the first, and after it refused one.
    proven: Option<u64>,
    // Ordered maps: the order of a hash map is random, and what happens here must not be.
    /// Boxed, as the exchanges are: an emptied map keeps room for eleven entries.
    ledger: BTreeMap<Id, Box<Request<C>>>,
    queue: VecDeque<Queued<C>>,
    asked: BTreeMap<u64, Asked>,
    last_asked: u64,

    /// What the upstream is taken to speak.
    era: Era,
    modern: Modern,
    phase: Phase,
    session: Session,
    /// Sessions that a second handshake of the client replaced; ended when nothing is in flight.
    retired: Vec<Session>,
    remembered: Remembered,
    calls: BTreeMap<CallId, Box<Call<C>>>,
    /// What found no connection, and when it is tried again; requests are in the ledger instead.
    again: Vec<(Instant, Again<C>)>,
    listen: Listen,
    /// Where the client's last POST came from: for exchanges that no single POST causes.
    latest: Option<(C, u64)>,

    draining: bool,
    /// The stream is old: it ends when nothing is in flight, and takes requests until then.
    retiring: bool,
    leaving: Option<Leaving>,
    finished: bool,
}

impl<C: Clone> Bridge<C> {
    /// A bridge for a stream that was just opened. It asks for nothing until the client posts something (the client
    /// may open streams only to see whether they exist).
    #[must_use]
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            random: settings.seed,
            era: settings.era,
            modern: Modern::default(),
            settings,
            now,
            outputs: VecDeque::new(),
            last_call: 0,
            held: BTreeMap::new(),
            proven: None,
            ledger: BTreeMap::new(),
            queue: VecDeque::new(),
            asked: BTreeMap::new(),
            last_asked: 0,
            phase: Phase::Fresh,
            session: Session::default(),
            retired: Vec::new(),
            remembered: Remembered::default(),
            calls: BTreeMap::new(),
            again: Vec::new(),
            listen: Listen::default(),
            latest: None,
            draining: false,
            retiring: false,
            leaving: None,
            finished: false,
        }
    }

    /// Takes in one thing that happened. Afterwards the outputs are to be polled until there is none, and
    /// [`Self::poll_timeout`] is to be asked again.
    pub fn handle(&mut self, input: Input<C>, now: Instant) {
        self.now = now;
        match input {
            Input::Posted(posted) => self.on_posted(posted),
            Input::Reply(call, reply) => self.on_reply(call, reply),
            Input::ClientGone => self.leave(),
            Input::Drain => self.draining = true,
            Input::Retire => self.retiring = true,
            Input::Expire => self.expire(),
        }
        self.settle();
    }

    /// The time that [`Self::poll_timeout`] named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        let due: Vec<PostId> = self
            .held
            .iter()
            .filter(|(_, held)| held.until <= now)
            .map(|(post, _)| *post)
            .collect();
        for post in due {
            self.answer_held(post, Answer::Accepted);
        }
        let due: Vec<Id> = self
            .ledger
            .iter()
            .filter(|(_, request)| request.due() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.on_request_due(&id);
        }
        let due: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.deadline.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        for call in due {
            self.on_call_due(call);
        }
        let idle: Vec<Id> = self.silent_requests().cloned().collect();
        for id in idle {
            self.on_request_silent(&id);
        }
        self.on_again_due();
        self.on_listen_due();
        self.on_subscriptions_due();
        self.on_leaving_due();
        self.settle();
    }

    /// The next thing to be carried out.
    pub fn poll_output(&mut self) -> Option<Output<C>> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called. Any call of `handle` or `handle_timeout` may change it.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let held = self.held.values().map(|held| held.until);
        let requests = self.ledger.values().map(|request| request.due());
        let calls = self.calls.values().filter_map(|call| {
            let silent = call.silent_at(self.settings.request_idle_timeout);
            call.deadline.into_iter().chain(silent).min()
        });
        let leaving = self.leaving.as_ref().map(|leaving| leaving.deadline);
        let again = self.again.iter().map(|(at, _)| *at);
        held.chain(requests)
            .chain(calls)
            .chain(again)
            .chain(self.listen.due())
            .chain(self.modern.subscriptions.due())
            .chain(leaving)
            .min()
    }

    /// Requests of the client that have had no outcome yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ledger.len()
    }

    /// Whether this request of the client has had no outcome yet.
    #[must_use]
    pub fn awaits(&self, id: &Id) -> bool {
        self.ledger.contains_key(id)
    }

    /// Bytes of the client's messages that are kept here: requests until their outcome, others until they are upstream,
    /// and for as long as it stays what a handshake that the ferry makes for it would repeat.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let requests = self.ledger.values().map(|request| &request.message);
        let rounds = self.ledger.values().filter_map(|it| it.rounds.as_ref());
        let rounds: usize = rounds.map(|rounds| rounds.held_bytes()).sum();
        let queued = self.queue.iter().filter_map(|queued| match queued {
            Queued::Notice(notice) => Some(&notice.message),
            Queued::Request(_) => None,
        });
        let sent = self.calls.values().filter_map(|call| match &call.purpose {
            Purpose::Notice(notice) => Some(&notice.message),
            _ => None,
        });
        let again = self.again.iter().filter_map(|(_, again)| again.message());
        let all = requests.chain(queued).chain(sent).chain(again);
        let waiting: usize = all.map(|message| message.text().len()).sum();
        waiting + rounds + self.remembered.held_bytes()
    }

    /// The revision that the upstream agreed to, once it has.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.session.version.as_deref()
    }

    /// What follows from any input: the queue moves on, sessions that are out of use end, a drain may be complete.
    fn settle(&mut self) {
        if self.client_state() == ClientState::Here {
            self.pump();
            self.end_retired_sessions();
            if self.ledger.is_empty() && (self.draining || self.retiring) {
                self.leave();
            }
        }
        self.advance_leaving();
    }

    fn emit(&mut self, output: Output<C>) {
        self.outputs.push_back(output);
    }

    fn count(&mut self, what: Counted) {
        self.emit(Output::Count(what));
    }

    /// Gives the client a message, unless the client is gone.
    fn deliver(&mut self, text: Bytes, about: About) {
        if self.client_state() == ClientState::Here {
            self.emit(Output::Deliver(text, about));
        }
    }

    /// Takes a request out of the ledger, and its place in the queue with it: its id may be used again at once.
    fn take(&mut self, id: &Id) -> Option<Request<C>> {
        let request = self.ledger.remove(id)?;
        if request.place == Place::Asking {
            self.withdraw_questions(id);
        }
        if request.is_initialize() {
            // The question that stands in its place waits here while no exchange is open for it.
            self.again.retain(|(_, again)| !again.is_for(id));
        }
        if request.place == Place::Queued {
            self.queue
                .retain(|queued| !matches!(queued, Queued::Request(queued) if queued == id));
        }
        Some(*request)
    }

    /// Gives a request its outcome: an error of the ferry's own.
    fn fail(&mut self, id: &Id, trouble: &Trouble) {
        let Some(request) = self.take(id) else {
            return;
        };
        self.release_post(request.origin.post);
        self.count(Counted::FerryError);
        let mut trouble = trouble.clone();
        if request.rounds.is_some() || request.resent {
            // An upstream that asks for input has begun; of a first attempt that was lost nobody knows.
            trouble.executed = Executed::Unknown;
        }
        self.deliver(
            trouble.response(request.message.id_text()),
            About::Outcome(id.clone()),
        );
        if let Place::Sent(call) = request.place {
            self.abort(call);
        }
    }

    /// A POST need not be held any longer: the client learns the rest from its stream.
    fn release_post(&mut self, post: Option<PostId>) {
        if let Some(post) = post {
            self.answer_held(post, Answer::Accepted);
        }
    }

    /// The upstream took this credential: no POST that came with it need be held any longer.
    fn prove(&mut self, credential: u64) {
        self.proven = Some(credential);
        let held = self.held.iter();
        let proven = held.filter(|(_, held)| held.credential == credential);
        let proven: Vec<PostId> = proven.map(|(post, _)| *post).collect();
        for post in proven {
            self.answer_held(post, Answer::Accepted);
        }
    }

    fn answer_held(&mut self, post: PostId, answer: Answer) {
        if self.held.remove(&post).is_some() {
            self.emit(Output::Answer(post, answer));
        }
    }

    /// A waiting time spread by a quarter either way, so that connections that failed together do not return together.
    fn jitter(&mut self, time: Duration) -> Duration {
        // A linear congruential step (Knuth's MMIX constants) is random enough to spread load, and reproducible.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = u32::try_from(self.random >> 48).unwrap_or_default();
        time.mul_f64(0.75 + f64::from(share) / 65536.0 / 2.0)
    }
}
