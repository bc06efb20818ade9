//! The closed vocabularies of the bridge: everything that can happen to it, and everything it can ask for.

use std::time::Duration;

use bytes::Bytes;

use crate::proto::era::Era;
use crate::proto::jsonrpc::{Id, Message};

/// One POST of the client that waits for its HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PostId(pub u64);

/// One HTTP exchange with the upstream. Ids are never used twice on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Everything that can happen to a connection. `C` is what the shell wants back with each exchange (the forwarded
/// headers of the POST that caused it); the bridge only carries it.
#[derive(Debug)]
pub enum Input<C> {
    /// The client posted something.
    Posted(Posted<C>),
    /// An exchange with the upstream went on.
    Reply(CallId, Reply),
    /// The client's stream is gone, or is being closed on it.
    ClientGone,
    /// The process is being stopped: finish what is in flight, take no new requests.
    Drain,
    /// The stream is getting old: end as soon as nothing is in flight.
    Retire,
    /// The time to finish is over, that of the process or that of the stream.
    Expire,
}

/// The body of one POST, already parsed.
#[derive(Debug)]
pub struct Posted<C> {
    /// Names the POST in [`Output::Answer`].
    pub post: PostId,
    /// Its messages: one, or those of a batch.
    pub messages: Vec<Message>,
    /// Whether the body was an array.
    pub batch: bool,
    /// A fingerprint of the credentials it came with; equal credentials have equal fingerprints.
    pub credential: u64,
    /// Its `MCP-Protocol-Version` header, a hint where no handshake was seen.
    pub version: Option<Box<str>>,
    /// Carried to the exchanges that this POST causes.
    pub context: C,
}

/// What an exchange with the upstream yields, in order: either one `Refused`, or a `Head`, its messages and an `End`,
/// or just an `End`. Nothing follows `Refused` and `End`.
#[derive(Debug)]
pub enum Reply {
    /// A 2xx answer began.
    Head {
        /// The HTTP status, 200 to 299.
        status: u16,
        /// Its `Mcp-Session-Id`.
        session: Option<Box<str>>,
        /// What its body is.
        body: Body,
    },
    /// A whole answer that is not 2xx.
    Refused(Box<Refusal>),
    /// A JSON text: a message, or an array of them.
    Message {
        /// The text.
        text: Bytes,
        /// The event id it came with, where the body is an event stream.
        event_id: Option<Box<str>>,
    },
    /// An event without a message: it sets the place to resume from, or the time to wait before that.
    Mark {
        /// The event id.
        event_id: Option<Box<str>>,
        /// The time to wait before asking again.
        retry: Option<Duration>,
    },
    /// Bytes came that are no whole message yet, or a comment: the upstream is there.
    Alive,
    /// A message larger than the limit was skipped.
    Oversized,
    /// The exchange is over.
    End(End),
}

/// What the body of a 2xx answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// One JSON text.
    Json,
    /// An event stream.
    Events,
    /// JSON lines.
    Lines,
    /// Nothing that carries messages.
    Other,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer arrived whole.
    Complete,
    /// The answer began and broke off; says why.
    Cut(String),
    /// No connection was made: the request did not leave; says why.
    Unreached(String),
    /// The request left, at least in part, and no answer began; says why.
    Lost(String),
    /// The answer's content type carries no messages; names it.
    WrongType(String),
}

/// An answer that is not 2xx, kept whole so that it can be passed on to the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type`.
    pub content_type: Option<String>,
    /// Every `WWW-Authenticate`, as bytes.
    pub challenges: Vec<Vec<u8>>,
    /// `Retry-After` in seconds, where it is a number.
    pub retry_after: Option<u64>,
    /// Where a redirect that was not followed points to.
    pub location: Option<String>,
    /// The body, cut at the shell's limit for refusals.
    pub body: Bytes,
}

/// Everything a bridge can ask for.
#[derive(Debug)]
pub enum Output<C> {
    /// Answer a POST of the client. Each POST is answered once.
    Answer(PostId, Answer),
    /// Start an exchange with the upstream.
    Send(CallId, Exchange<C>),
    /// Drop an exchange; none of its replies are wanted any more.
    Abort(CallId),
    /// Give the client a message. A front with one stream puts it there; one with a stream for each request needs to know
    /// what it is about.
    Deliver(Bytes, About),
    /// Have the client carry this to its next stream, sealed, in the id of the event with the next message; it takes the
    /// place of what it carried before. At most [`super::MAX_CARRIED`] bytes; none where that is not true any more, and the
    /// client is to carry nothing.
    Carry(Bytes),
    /// End the client's stream after what was delivered.
    EndStream,
    /// The upstream has shown what it speaks: of use to connections that begin later.
    Learnt(Era),
    /// Something the operator should know, in words.
    Warn(String),
    /// Something worth counting happened.
    Count(Counted),
    /// The connection is over: nothing is open upstream any more.
    Finished,
}

/// Which request of the client a delivered message has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// None: the upstream sent it unasked.
    Nothing,
    /// It came while this request was being executed.
    During(Id),
    /// It is the outcome of this request.
    Outcome(Id),
}

impl About {
    /// The request that it has to do with.
    #[must_use]
    pub fn request(&self) -> Option<&Id> {
        match self {
            Self::Nothing => None,
            Self::During(id) | Self::Outcome(id) => Some(id),
        }
    }
}

/// How a POST of the client is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 202: the ledger has it.
    Accepted,
    /// 400: the client's mistake; says which.
    Invalid(String),
    /// 401 or 403: the upstream's own answer.
    Refused(Box<Refusal>),
    /// 404: the client's stream is gone, so nothing could ever be answered.
    Gone,
    /// 503: a queue is full.
    Busy,
}

impl Answer {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Accepted => 202,
            Self::Invalid(_) => 400,
            Self::Refused(refusal) => refusal.status,
            Self::Gone => 404,
            Self::Busy => 503,
        }
    }
}

/// One HTTP exchange to be had with the upstream.
#[derive(Debug)]
pub struct Exchange<C> {
    /// What to do.
    pub verb: Verb,
    /// The value of `Mcp-Session-Id`.
    pub session: Option<std::sync::Arc<str>>,
    /// The value of `MCP-Protocol-Version`.
    pub version: Option<std::sync::Arc<str>>,
    /// The headers that repeat parts of the message, for a modern upstream; none for others.
    pub mirrored: Vec<Mirrored>,
    /// From the POST on whose behalf this happens.
    pub context: C,
    /// Whether it was tried before. The shell may turn such a one down when too many are under way.
    pub repeated: bool,
    /// What it is for. It changes nothing of the exchange; it is for those who watch and measure.
    pub cause: Cause,
}

/// What an exchange with the upstream is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This request of the client.
    Request(Id),
    /// A notification of the client, or its answer to a request of the upstream.
    Notice,
    /// The client's cancel of a request.
    Cancel,
    /// A handshake of the ferry's own.
    Handshake,
    /// The end of one.
    Initialized,
    /// A log level or a subscription, said again after the session was lost.
    Restore,
    /// The stream for what the upstream sends unasked.
    Listen,
    /// `server/discover`, for the ferry itself.
    Discover,
    /// `tools/list`, for the ferry itself.
    ListTools,
    /// The stream for what a modern upstream tells unasked.
    Subscriptions,
    /// The end of a session, or of what was under way on it.
    Farewell,
}

impl Cause {
    /// The request of the client that it is for, where it is one.
    #[must_use]
    pub fn request(&self) -> Option<&Id> {
        match self {
            Self::Request(id) => Some(id),
            _ => None,
        }
    }

    /// A word for it, where it is none of the client's messages: what the tap and the log call it.
    #[must_use]
    pub fn own(&self) -> Option<&'static str> {
        Some(match self {
            Self::Request(_) | Self::Notice => return None,
            Self::Cancel => "cancel",
            Self::Handshake => "handshake",
            Self::Initialized => "initialized",
            Self::Restore => "restore",
            Self::Listen => "listen",
            Self::Discover => "discover",
            Self::ListTools => "list-tools",
            Self::Subscriptions => "subscriptions",
            Self::Farewell => "farewell",
        })
    }
}

/// A header that repeats a part of the message it goes with (2026-07-28, "Request Metadata").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrored {
    /// Its name: visible ASCII, a token of RFC 9110 §5.6.2.
    pub name: Box<str>,
    /// Its value: visible ASCII, spaces and tabs.
    pub value: Box<str>,
}

/// The three things one can ask a Streamable HTTP endpoint for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Send this message.
    Post(Bytes),
    /// Listen, or resume from an event.
    Get {
        /// The value of `Last-Event-ID`.
        last_event_id: Option<Box<str>>,
    },
    /// End the session.
    Delete,
}

/// What the bridge counts. A closed set: these become metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// An answer came for a request that had its outcome already; it was dropped.
    LateAnswer,
    /// The upstream sent something that is not a JSON-RPC message; it was dropped.
    InvalidUpstreamMessage,
    /// The client sent an answer or a cancel that belongs to nothing; it was dropped.
    StrayClientMessage,
    /// The ferry made a handshake for a client that did not.
    ImplicitHandshake,
    /// The ferry repeated the handshake because the upstream lost the session.
    Reinitialize,
    /// A reply stream that ended early was resumed.
    Resume,
    /// The listen stream was opened again.
    ListenReopened,
    /// A request was sent again.
    Retry,
    /// A request ended in an error of the ferry's own.
    FerryError,
    /// What the client said of itself is too long for it to carry.
    NotCarried,
    /// The upstream was found to be of the other era than it was taken for.
    EraChanged,
}
