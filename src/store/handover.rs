//! Handing a request over: what crosses between the replica that took it and the one that owns its connection.
//!
//! Here are the words that the server uses for it. Below, and free of IO, is how it is made safe: `codec` writes requests
//! and answers as bytes, `entry` seals them for one inbox, `window` knows what was seen, and `desk` puts these together.

mod codec;
mod desk;
mod entry;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{ConnectionId, Front};
pub(super) use crate::metrics::labels::TakenOver;
pub(super) use desk::{Desk, Sender, Ticket};
pub(super) use window::Process;

/// How much longer than the owner may hold a request its answer is waited for.
pub const ACK_GRACE: Duration = Duration::from_secs(4);
/// Requests that others handed over and that wait to be looked at; one more is answered 503.
pub const ARRIVALS: usize = 256;
/// Requests handed over, or taken from others, that have no answer yet: so many each way. One more gets 503.
pub const MAX_HANDED: usize = 4096;

/// Bytes of a request or an answer that are handed over at most, headers included: what a Redis takes by default in one
/// piece is eight times that.
pub const MAX_ENTRY: usize = 64 << 20;

/// What is asked of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A message for a connection.
    Post,
    /// A listen stream.
    Get,
    /// The end of a session.
    Delete,
}

/// A request for a connection that is at another replica than the one that took it. Its body and its headers are a
/// client's secrets: `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct Handed {
    /// What its connection's client speaks to.
    pub front: Front,
    /// Its connection.
    pub id: ConnectionId,
    /// What is asked.
    pub method: Method,
    /// Those of its headers that the owner needs: lower-case names, values as they came.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// Who it came from, as the socket says that it was taken on.
    pub peer: IpAddr,
    /// Its body, whole.
    pub body: Bytes,
    /// How long the owner may hold it before it answers. [`ACK_GRACE`] more is waited for the answer.
    pub hold: Duration,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed")
            .field("front", &self.front)
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body", &self.body.len())
            .field("hold", &self.hold)
            .finish_non_exhaustive()
    }
}

/// What the owner answers, as HTTP. `Debug` shows the status only.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status, 100 to 999.
    pub status: u16,
    /// Its headers: lower-case names, values as they are.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// Its body, whole.
    pub body: Bytes,
}

/// Marks an answer that is none: no header has such a name, so that none of an upstream's can be taken for it.
const ASTRAY: &str = ":astray";

impl Reply {
    /// The request says another time than it is at the owner, which has not taken it.
    pub(super) fn astray() -> Self {
        let mut reply = Self::text(503, "the request was kept back for too long; try again");
        reply.headers.push((ASTRAY.into(), Box::default()));
        reply
    }

    /// Whether it is [`Self::astray`].
    pub(super) fn is_astray(&self) -> bool {
        self.headers.iter().any(|(name, _)| **name == *ASTRAY)
    }

    /// A plain sentence.
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        let kind = b"text/plain; charset=utf-8".as_slice();
        Self {
            status,
            headers: vec![("content-type".into(), kind.into())],
            body: format!("mcp-ferry: {text}\n").into(),
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Why a request could not be handed over, or had no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOverError {
    /// The owner is not there any more, and with it the connection; or it neither answered nor gave a heartbeat in that time,
    /// and the request may have been executed: 404.
    OwnerGone,
    /// The store could not be reached within `--store-timeout`, or did not say in that time that it took the request. The
    /// owner has not got it, unless only that word was lost: 503.
    Unreachable,
    /// The owner did not answer in time, or its answer was lost. It is told to leave the request if it has not taken it: 503.
    NoAnswer,
    /// The request is larger than what the store takes: 413.
    TooLarge,
    /// [`MAX_HANDED`] requests are on their way, or the owner reads none: 503.
    Full,
}

impl fmt::Display for HandOverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerGone => "the replica that had the connection is gone",
            Self::Unreachable => "the replica that has the connection cannot be reached",
            Self::NoAnswer => "the replica that has the connection did not answer in time",
            Self::TooLarge => "the message is too large to be handed to another replica",
            Self::Full => "too many messages wait to be handed to another replica",
        })
    }
}

impl std::error::Error for HandOverError {}

/// A request that another replica took for a connection of this one.
#[derive(Debug)]
pub struct Arrived {
    /// The request.
    pub request: Handed,
    /// Takes the answer, once the connection holds the request or has refused it. Dropped without one, the other
    /// replica's client gets 503.
    pub reply: oneshot::Sender<Reply>,
}

/// Whether requests can be handed over, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreHealth {
    /// They can, or there is nobody to hand them to.
    Good,
    /// They cannot, or this replica cannot read what others hand over to it; says why. Connections of this process are served all the same.
    Degraded(String),
}
