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
//! | `ledger` | one request in flight |
//! | `client` | what the client posts: admission, the hold for the upstream's status, cancels |
//! | `handshake` | the handshake era: initialize, the gate behind it, sessions and their loss |
//! | `replies` | what the upstream answers: heads and messages |
//! | `ends` | how exchanges end: refusals, broken streams, resumption, attempts to connect |
//! | `modern` | the modern era: `server/discover`, requests without a session, what the upstream asks back |
//! | `listen` | the stream for what the upstream sends unasked |
//! | `leave` | the end: drain, farewell, DELETE |
//! | `restore` | what a new session is told because the lost one knew it |
//! | `missed` | what is said to a client that may have missed a notification |
//! | `trouble` | the errors that the ferry makes itself |

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
mod trouble;
mod vocabulary;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::proto::era::Era;
use crate::proto::jsonrpc::{Id, Message};
use ends::Again;
use handshake::{Phase, Session};
use leave::{ClientState, Leaving};
use ledger::{Attempts, Origin, Place, Request};
use listen::Listen;
use modern::Modern;
use modern::discover::Discovery;
pub use modern::rounds::{MAX_QUESTIONS, MAX_ROUNDS};
use restore::Remembered;
use trouble::{Executed, Trouble};
pub use vocabulary::{
    About, Answer, Body, CallId, Counted, End, Exchange, Input, Mirrored, Output, PostId, Posted,
    Refusal, Reply, Verb,
};

/// Requests of the upstream that wait for the client's answer; one more is answered with an error.
pub const MAX_ASKED: usize = 256;
/// Notifications and answers of the client that wait behind a handshake or for the upstream; one more POST gets 503.
pub const MAX_NOTICES: usize = 256;
/// How long an exchange may stay open after its request had its outcome.
const LINGER: Duration = Duration::from_secs(5);
/// Exchanges that may do so at once; one more is dropped with the outcome.
const MAX_LINGERING: usize = 16;

/// What a bridge needs to know beforehand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests in flight at once; one more gets an error.
    pub max_in_flight: usize,
    /// How long one request may take, all in all.
    pub request_timeout: Duration,
    /// How long the upstream may send nothing in the exchange of a request.
    pub request_idle_timeout: Duration,
    /// How long a POST is held for the upstream's status while its credential is unproven.
    pub hold: Duration,
    /// The same for `initialize`.
    pub hold_initialize: Duration,
    /// Whether POSTs whose credential is proven are held too. For a front whose answers wait for the upstream anyway: a
    /// credential that has expired becomes an HTTP status there at once.
    pub hold_proven: bool,
    /// How long a handshake of the ferry's own may take, and how long `notifications/initialized` may hold up others.
    pub handshake_timeout: Duration,
    /// How long the farewell to the upstream may take, once the client is gone.
    pub leave_timeout: Duration,
    /// The revision named on the client's GET, a hint for a handshake of the ferry's own.
    pub version_hint: Option<Box<str>>,
    /// What the upstream is taken to speak until it shows something else.
    pub era: Era,
    /// Whether that is the operator's word, to be held to whatever the upstream shows.
    pub era_fixed: bool,
    /// Whether a stream is kept open on which the upstream tells of changes.
    pub listen: bool,
    /// Whether content that the client's revision does not know becomes text.
    pub downgrade_content: bool,
    /// Seed of the jitter on waiting times.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: 128,
            request_timeout: Duration::from_secs(3600),
            request_idle_timeout: Duration::from_secs(900),
            hold: Duration::from_secs(1),
            hold_initialize: Duration::from_secs(3),
            hold_proven: false,
            handshake_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(5),
            version_hint: None,
            era: Era::Handshake,
            era_fixed: false,
            listen: true,
            downgrade_content: false,
            seed: 0,
        }
    }
}

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

/// What waits behind the gate of the handshake.
#[derive(Debug)]
enum Queued<C> {
    /// A request; the ledger has it.
    Request(Id),
    /// A notification.
    Notice(Notice<C>),
}

/// A notification of the client, or its answer to a request of the upstream.
#[derive(Debug)]
struct Notice<C> {
    message: Message,
    origin: Origin<C>,
    attempts: Attempts,
    /// Whether its one repetition on a new session is used up, or there shall be none.
    replayed: bool,
}

/// Why an exchange with the upstream was started.
#[derive(Debug)]
enum Purpose<C> {
    /// For this request of the ledger: a POST, or a GET that resumes.
    Request(Id),
    /// It has served its purpose. What still comes is relayed, but no answer.
    Abandoned,
    /// A notification or an answer of the client.
    Notice(Notice<C>),
    /// The client's cancel of a request; the exchange that it cancels is dropped when this one is settled.
    Cancel(Option<CallId>),
    /// The ferry's own `initialize`, on behalf of what came from there; or the client's, once the client is gone.
    OwnInitialize(Origin<C>, Attempts, Id),
    /// The ferry's own `notifications/initialized`.
    OwnInitialized,
    /// Log level or subscription, restored after the session was lost.
    Restore,
    /// The stream for what the upstream sends unasked.
    Listen,
    /// `server/discover`, asked of a modern upstream.
    Discover(Box<Discovery<C>>),
    /// The ferry's own `tools/list`.
    ListTools(Option<Box<Message>>),
    /// The stream for what a modern upstream tells unasked.
    Subscriptions,
    /// The end of a session, or a word of farewell; the answer does not matter.
    Farewell,
}

/// One open exchange with the upstream.
#[derive(Debug)]
struct Call<C> {
    purpose: Purpose<C>,
    /// Of the session that it was started with.
    generation: u32,
    /// Whether a session id went with it.
    with_session: bool,
    /// Whether it was said in the modern revision.
    modern: bool,
    credential: u64,
    /// The session id of its answer, which counts only when the answer is a good `initialize`.
    session: Option<Box<str>>,
    /// When it is dropped, or its failure assumed.
    deadline: Option<Instant>,
    /// When the upstream was last heard in it, or it began.
    heard: Instant,
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

impl<C> Call<C> {
    /// When a request's exchange has been silent for too long.
    fn silent_at(&self, limit: Duration) -> Option<Instant> {
        matches!(self.purpose, Purpose::Request(_)).then(|| self.heard + limit)
    }
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

    /// Bytes of the client's messages that wait here: requests until their outcome, others until they are upstream.
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
        rounds + all.map(|message| message.text().len()).sum::<usize>()
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

    /// What a message that came in this exchange has to do with.
    fn about(&self, call: CallId) -> About {
        match self.calls.get(&call).map(|call| &call.purpose) {
            Some(Purpose::Request(id)) => About::During(id.clone()),
            _ => About::Nothing,
        }
    }

    fn send(&mut self, purpose: Purpose<C>, verb: Verb, context: C, credential: u64) -> CallId {
        let session = self.session.clone();
        self.send_on(&session, purpose, verb, Vec::new(), context, credential)
    }

    fn send_on(
        &mut self,
        session: &Session,
        purpose: Purpose<C>,
        verb: Verb,
        mirrored: Vec<Mirrored>,
        context: C,
        credential: u64,
    ) -> CallId {
        self.last_call += 1;
        let id = CallId(self.last_call);
        let call = Call {
            purpose,
            generation: session.generation,
            with_session: session.id.is_some(),
            modern: session.is_modern(),
            credential,
            session: None,
            deadline: None,
            heard: self.now,
        };
        let repeated = self.repeats(&call.purpose);
        self.calls.insert(id, Box::new(call));
        let exchange = Exchange {
            verb,
            session: session.id.clone(),
            version: session.version.clone(),
            mirrored,
            context,
            repeated,
        };
        self.emit(Output::Send(id, exchange));
        id
    }

    /// Whether an exchange for this purpose was had before, or tried.
    fn repeats(&self, purpose: &Purpose<C>) -> bool {
        match purpose {
            Purpose::Request(id) => self
                .ledger
                .get(id)
                .is_some_and(|request| request.resent || request.attempts.failures > 0),
            Purpose::OwnInitialize(_, attempts, _) => attempts.failures > 0,
            Purpose::Discover(discovery) => discovery.attempts.failures > 0,
            Purpose::Notice(notice) => notice.attempts.failures > 0,
            _ => false,
        }
    }

    /// Gives an exchange until then.
    fn limit(&mut self, call: CallId, time: Duration) {
        let deadline = self.now + time;
        if let Some(call) = self.calls.get_mut(&call) {
            call.deadline = Some(deadline);
        }
    }

    /// An exchange has served its purpose. It may end by itself, so that its connection can be used again.
    fn let_linger(&mut self, call: CallId) {
        let abandoned = |call: &&Call<C>| matches!(call.purpose, Purpose::Abandoned);
        if self
            .calls
            .values()
            .map(Box::as_ref)
            .filter(abandoned)
            .count()
            >= MAX_LINGERING
        {
            return self.abort(call);
        }
        if let Some(call) = self.calls.get_mut(&call) {
            call.purpose = Purpose::Abandoned;
        }
        self.limit(call, LINGER);
    }

    /// Drops an exchange, if it is still open.
    fn abort(&mut self, call: CallId) {
        if self.calls.remove(&call).is_some() {
            self.emit(Output::Abort(call));
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
