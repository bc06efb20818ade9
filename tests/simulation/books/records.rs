//! The entries of the books.

use std::collections::BTreeSet;
use std::time::Instant;

use mcp_ferry::proto::bridge::CallId;

use super::{Filter, Offers, Round};

/// What becomes of a request of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    InFlight,
    /// In flight or not: the upstream refused another message of its batch, and the client the whole POST.
    Loose,
    /// Answered, cancelled, or its stream ended.
    Over,
    /// Its POST was refused.
    NotTaken,
}

#[derive(Debug)]
pub struct Request {
    pub nonce: String,
    pub id: String,
    pub method: String,
    /// The resource that it is about, or the log level.
    pub detail: String,
    /// Whether it was sent, and the upstream has neither proven that it did nothing nor asked for input.
    pub pending: bool,
    /// Whether the upstream ever began to run it.
    pub ever: bool,
    /// What the upstream asked last before it answers.
    pub round: Option<Round>,
    pub initialize: bool,
    pub safe: bool,
    pub fate: Fate,
    /// How often the upstream ran it since it last asked for input.
    pub executed: u32,
    /// The client was told that it was not executed.
    pub promised: bool,
    /// The session that it was last sent on, once it was sent.
    pub sent_on: Option<Option<String>>,
    /// The credential and the time of its POST.
    pub credential: u64,
    pub since: Option<Instant>,
    /// The last event id of its reply stream.
    pub mark: Option<String>,
}

/// What else a POST does, which it does not do when it is not taken.
#[derive(Clone, Debug)]
pub enum Does {
    Nothing,
    /// Cancels a request.
    Cancels(usize),
    /// Answers a question, known to the client by this id.
    Answers(String, usize),
}

/// A POST that waits for its status.
#[derive(Debug)]
pub struct Post {
    pub since: Instant,
    pub credential: u64,
    /// Its requests, and how many messages it holds in all.
    pub requests: Vec<usize>,
    pub messages: usize,
    pub does: Does,
}

/// A session that the upstream gave to this connection.
#[derive(Debug)]
pub struct Session {
    /// Of the handshake that it comes from.
    pub generation: usize,
    /// Whether a good `initialize` result that came with it has reached the ferry.
    pub adopted: bool,
    /// Whether the ferry was told that it is unknown.
    pub refused: bool,
    pub deleted: u32,
    /// The last event id of its listen stream.
    pub mark: Option<String>,
}

/// A request of the upstream to the client.
#[derive(Debug)]
pub struct Question {
    pub nonce: String,
    /// The upstream's id.
    pub id: String,
    pub session: Option<String>,
    /// Of the handshake that the exchange belongs to on which it reached the ferry; 0 before.
    pub generation: usize,
    /// What the client answered.
    pub answer: Option<String>,
    /// Whether that was an error, or of the wrong shape.
    pub refused: bool,
    /// The request that is not answered before this is.
    pub round: Option<usize>,
    /// How often an answer left for the upstream, and whether one was ever sent.
    pub answered: u32,
    pub tried: bool,
    pub withdrawn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Initialize,
    Initialized,
    Request(usize),
    Restore,
    Cancel,
    Notice,
    /// The answer to this question.
    Answer(usize),
    Listen,
    Resume(usize),
    Delete,
    Discover,
    ListTools,
    Subscriptions,
    /// What was for a request, and led to something else than its outcome.
    Served,
}

/// An exchange that is open, as the ferry sees it.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub kind: Kind,
    pub session: Option<String>,
    /// The id of the request in it, as JSON; of a notification, its nonce.
    pub id: String,
    /// Which request of the client it is, also for the client's own `initialize`.
    pub request: Option<usize>,
    pub credential: u64,
    /// Where it resumes from.
    pub last_event_id: Option<String>,
    /// The session that its head named.
    pub named: Option<String>,
    pub generation: usize,
    /// Whether it is said in the modern revision.
    pub modern: bool,
    /// Whether it is a call whose argument is wanted in a header, and the header that it is in.
    pub wants_header: bool,
    pub header: Option<String>,
    /// What a subscriptions stream asks for, and what was acknowledged of the resources.
    pub filter: Option<Filter>,
    pub honoured: Option<BTreeSet<String>>,
}

/// Something that the upstream says, as the books want to know it. Each with its text as the ferry must read it.
#[derive(Clone, Debug)]
pub enum Said {
    Notice(String),
    /// An answer to the request with this id (as JSON) and nonce. The flag: it is a result.
    Answer(String, String, bool),
    /// A question, by its place in the books.
    Question(usize),
    /// A question is taken back.
    Withdrawn(usize),
    /// A notification of a modern stream, as the client must see it.
    Told(String),
    /// A modern upstream asks for this before it answers.
    Wants(Round),
    /// What a modern upstream says of itself.
    Discovered(Offers),
    /// A stream is acknowledged for these resources.
    Acknowledged(BTreeSet<String>),
    /// The request cannot be served like this: it was not run.
    Other,
    /// Nothing that anybody may see.
    Noise,
    /// A JSON array of them.
    Several(Vec<Self>),
}

/// What the rest of the model has to do about an output.
#[derive(Debug)]
pub enum Asks {
    Start(CallId),
    Drop(CallId),
    Deliver(String),
    End,
}
