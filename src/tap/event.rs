//! The vocabulary of the bus: everything that traffic says of what crosses, as it was. Nothing here is redacted, kept or
//! shown; that is made of it later (`recorder`).

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::time::Instant;

use super::record::Front;
use super::summary::Read;
use crate::proto::bridge::{About, Cause};
use crate::proto::era::Era;
use crate::proto::jsonrpc::{Id, Kind};

/// Names a connection towards people: short, and worthless to anyone who wants to post to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u64);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Something that crossed, as it was.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// What, and where.
    pub what: What,
}

/// What crossed.
#[derive(Clone, Debug)]
pub enum What {
    /// On a translated connection.
    On(Label, Crossing),
    /// In a request that passes through; they are numbered.
    Passing(u64, Passing),
    /// The ferry refused a request itself.
    Refused {
        /// The client's address.
        peer: IpAddr,
        /// The request.
        head: Arc<Head>,
        /// The HTTP status that it got.
        status: u16,
        /// Why.
        why: String,
    },
}

/// What crosses on a translated connection.
#[derive(Clone, Debug)]
pub enum Crossing {
    /// It began.
    Opened {
        /// How the client came.
        front: Front,
        /// The client's address.
        peer: IpAddr,
        /// The request that opened it, where that is not its first message.
        head: Option<Arc<Head>>,
    },
    /// It is over, upstream too.
    Closed,
    /// The client posted a message.
    FromClient {
        /// The POST.
        post: u64,
        /// Its head.
        head: Option<Arc<Head>>,
        /// What the message is.
        kind: Kind,
        /// Its id.
        id: Option<Id>,
        /// The message.
        text: Text,
    },
    /// A POST of the client got its status.
    Answered {
        /// The POST.
        post: u64,
        /// The HTTP status.
        status: u16,
    },
    /// A message was given to the client.
    ToClient {
        /// Which request of the client it has to do with.
        about: About,
        /// The message.
        text: Text,
    },
    /// A call to the upstream was begun.
    ToUpstream {
        /// Its number on this connection.
        call: u64,
        /// What it is for.
        cause: Cause,
        /// The HTTP request.
        head: Arc<Head>,
        /// The message, where there is one.
        text: Option<Text>,
    },
    /// The upstream's answer began, or was refused.
    Status {
        /// The number of the call.
        call: u64,
        /// The HTTP status.
        status: u16,
        /// The answer's headers.
        headers: Arc<HeaderMap>,
    },
    /// The upstream sent a message.
    FromUpstream {
        /// The number of the call.
        call: u64,
        /// The message.
        text: Text,
    },
    /// A call is over.
    Ended {
        /// The number of the call.
        call: u64,
        /// Why, unless its answer came whole.
        why: Option<String>,
    },
    /// The upstream has shown its era.
    Learnt(Era),
}

/// Why a call ended that the ferry gave up, mostly because its client went or cancelled.
pub const FERRY_ENDED: &str = "the ferry ended it";
/// Why a passing request ended whose client went before its answer was whole.
pub const CLIENT_LEFT: &str = "the client gave it up";

/// What crosses in one request that passes through.
#[derive(Clone, Debug)]
pub enum Passing {
    /// It began.
    Began {
        /// The client's address.
        peer: IpAddr,
        /// The request.
        head: Arc<Head>,
    },
    /// A piece of the client's body.
    Upload(Text),
    /// The client's body is over.
    Sent,
    /// The upstream's answer began.
    Status {
        /// The HTTP status.
        status: u16,
        /// The answer's headers.
        headers: Arc<HeaderMap>,
    },
    /// A piece of the upstream's body.
    Download(Text),
    /// Pieces are left out: of the upstream's body once that has begun, else of the client's.
    Gap,
    /// It is over.
    Ended {
        /// Why, unless its answer came whole.
        why: Option<String>,
    },
}

/// The head of an HTTP request.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: hyper::Method,
    /// Path and query.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The connection that it turned out to be for, where the ferry has one and looked so far.
    connection: OnceLock<Label>,
}

impl Head {
    /// The head of a request with these parts.
    pub(super) fn new(method: hyper::Method, target: String, headers: HeaderMap) -> Self {
        Self {
            method,
            target,
            headers,
            connection: OnceLock::new(),
        }
    }

    /// The request is one for this connection, for whoever shows it later.
    pub fn belongs_to(parts: &hyper::http::request::Parts, connection: Label) {
        if let Some(shared) = parts.extensions.get::<Arc<Self>>() {
            // It is for one alone.
            let _ = shared.connection.set(connection);
        }
    }

    /// Which connection it is for, if that is known.
    #[must_use]
    pub fn connection(&self) -> Option<Label> {
        self.connection.get().copied()
    }

    /// The head of a request.
    #[must_use]
    pub fn of(method: &hyper::Method, uri: &hyper::Uri, headers: &HeaderMap) -> Arc<Self> {
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Arc::new(Self::new(
            method.clone(),
            target.to_owned(),
            headers.clone(),
        ))
    }

    /// The head of a request, one copy for all who show it: the first leaves it among the request's extensions.
    pub fn share<B>(request: &mut hyper::Request<B>) -> Arc<Self> {
        if let Some(known) = request.extensions().get::<Arc<Self>>() {
            return Arc::clone(known);
        }
        let head = Self::of(request.method(), request.uri(), request.headers());
        request.extensions_mut().insert(Arc::clone(&head));
        head
    }

    /// The same, of what is left of a request without its body.
    #[must_use]
    pub fn of_parts(head: &hyper::http::request::Parts) -> Arc<Self> {
        let known = head.extensions.get::<Arc<Self>>().cloned();
        known.unwrap_or_else(|| Self::of(&head.method, &head.uri, &head.headers))
    }
}

/// The text of a message, or the beginning of a long one.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// As much as is kept.
    pub head: Bytes,
    /// The size of the whole.
    pub size: usize,
    /// What the whole said, where only the beginning is kept of it.
    pub(super) told: Option<Box<Read>>,
}

impl Text {
    /// Whether there was more of it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.head.len() < self.size
    }

    fn bytes(&self) -> usize {
        self.head.len() + self.told.as_ref().map_or(0, |told| told.bytes())
    }
}

impl What {
    /// What it holds of texts and headers.
    pub(super) fn bytes(&self) -> usize {
        let of = |text: Option<&Text>, head: Option<&Arc<Head>>| {
            let head = head.map_or(0, |head| head.target.len() + size(&head.headers));
            text.map_or(0, Text::bytes) + head
        };
        match self {
            Self::On(_, Crossing::FromClient { text, head, id, .. }) => {
                of(Some(text), head.as_ref()) + length(id.as_ref())
            }
            Self::On(
                _,
                Crossing::ToUpstream {
                    text, head, cause, ..
                },
            ) => of(text.as_ref(), Some(head)) + length(cause.request()),
            Self::On(_, Crossing::Opened { head, .. }) => of(None, head.as_ref()),
            Self::Passing(_, Passing::Began { head, .. }) => of(None, Some(head)),
            Self::Refused { head, why, .. } => of(None, Some(head)) + why.len(),
            Self::On(_, Crossing::ToClient { text, about }) => {
                of(Some(text), None) + length(about.request())
            }
            Self::On(_, Crossing::FromUpstream { text, .. })
            | Self::Passing(_, Passing::Upload(text) | Passing::Download(text)) => {
                of(Some(text), None)
            }
            Self::On(_, Crossing::Status { headers, .. })
            | Self::Passing(_, Passing::Status { headers, .. }) => size(headers),
            Self::On(..) | Self::Passing(..) => 0,
        }
    }
}

fn length(id: Option<&Id>) -> usize {
    match id {
        Some(Id::String(text) | Id::Other(text)) => text.len(),
        _ => 0,
    }
}

fn size(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum()
}
