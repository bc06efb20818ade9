//! Who owns a connection, and how to hand it a message.
//!
//! A connection's stream lives in one process, its owner; whoever takes a POST asks the store to deliver it there. The
//! set of stores is closed: an enum, so that the compiler lists what a new one needs.

mod binding;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::outlet::Outlet;
use crate::proto::bridge::Answer;
use crate::proto::jsonrpc::Message;
use crate::tap::Head;
use crate::upstream::Forwarded;
pub use binding::{Binding, Claim};
pub use memory::Memory;

/// Deliveries that wait for one connection; the next POST waits with them.
pub const MAILBOX: usize = 4;

/// The name of a connection: 256 random bits. Whoever knows it can post, so it is never logged: neither `Debug` nor
/// `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionId([u8; 32]);

impl ConnectionId {
    /// A new one, from the system's random source.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Reads an id as [`Self::reveal`] wrote it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair.iter().try_fold(0, |value: u8, digit| {
                let digit = char::from(*digit)
                    .to_digit(16)
                    .filter(|_| !digit.is_ascii_uppercase())?;
                Some(value << 4 | u8::try_from(digit).ok()?)
            })?;
        }
        Some(Self(bytes))
    }

    /// The id in hexadecimal, for the one client that owns it.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Some of its bits. They are random, so that they spread in a table without being hashed.
    fn bits(&self) -> u64 {
        self.0
            .iter()
            .take(8)
            .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionId(…)")
    }
}

/// What is handed to a connection.
#[derive(Debug)]
pub enum Delivery {
    /// A POST of its client.
    Posted(Post),
    /// The client of a session listens for what no request asks for.
    Listen(Listener),
    /// The client of a session ends it.
    Leave,
    /// The process is stopping: finish. Those that are idle end within this time, not all at once.
    Drain(Duration),
    /// The time to finish is over.
    Expire,
}

/// One POST, already parsed.
#[derive(Debug)]
pub struct Post {
    /// Its messages.
    pub messages: Vec<Message>,
    /// Whether the body was an array.
    pub batch: bool,
    /// A fingerprint of its credentials.
    pub credential: u64,
    /// Its `MCP-Protocol-Version` header.
    pub version: Option<Box<str>>,
    /// What goes upstream with it.
    pub forwarded: Arc<Forwarded>,
    /// Its head, where somebody watches.
    pub shown: Option<Arc<Head>>,
    /// How it is to be answered.
    pub answer: oneshot::Sender<Answer>,
    /// Where the outcomes of its requests go, where each POST has an answer of its own.
    pub outlet: Option<Outlet>,
}

/// A stream for what no request asks for.
#[derive(Debug)]
pub struct Listener {
    /// The stream.
    pub outlet: Outlet,
    /// Whether it was taken: a session has one at a time.
    pub taken: oneshot::Sender<bool>,
}

/// What a connection's client speaks to; an id is good for one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The legacy transport: its stream, and POSTs that name it in their query.
    Stream,
    /// The MCP endpoint: requests that name it in `Mcp-Session-Id`.
    Session,
}

/// A connection's mailbox. The deliveries are boxed because an empty mailbox has room for many.
pub type Mailbox = mpsc::Sender<Box<Delivery>>;

/// A connection that was found, to be handed a POST.
#[derive(Clone, Debug)]
pub struct Recipient {
    mailbox: Mailbox,
    /// Who may post on it.
    pub binding: Arc<Binding>,
    front: Front,
}

impl Recipient {
    /// Hands over a POST. `false` when the connection has ended meanwhile: the POST was not taken, and its answer will
    /// never come.
    pub async fn deliver(&self, post: Post) -> bool {
        self.hand(Delivery::Posted(post)).await
    }

    /// Hands over anything. `false` when the connection has ended meanwhile.
    pub async fn hand(&self, delivery: Delivery) -> bool {
        self.mailbox.send(Box::new(delivery)).await.is_ok()
    }
}

/// Where connections are registered.
#[derive(Debug)]
pub enum Store {
    /// In this process.
    Memory(Memory),
}

impl Store {
    /// Registers a connection with its owner's mailbox, and who may use it.
    pub fn claim(&self, id: ConnectionId, mailbox: Mailbox, binding: Binding, front: Front) {
        let recipient = Recipient {
            mailbox,
            binding: Arc::new(binding),
            front,
        };
        match self {
            Self::Memory(memory) => memory.claim(id, recipient),
        }
    }

    /// Forgets a connection: from now on its id is unknown.
    pub fn release(&self, id: &ConnectionId) {
        match self {
            Self::Memory(memory) => memory.release(id),
        }
    }

    /// Finds the connection that an id names on this front. `None` when the id is unknown there.
    #[must_use]
    pub fn find(&self, id: &ConnectionId, front: Front) -> Option<Recipient> {
        let found = match self {
            Self::Memory(memory) => memory.find(id),
        };
        found.filter(|recipient| recipient.front == front)
    }

    /// Tells every connection of this process that it is to finish; the idle ones end spread over the given time.
    pub fn drain(&self, spread: Duration) {
        match self {
            Self::Memory(memory) => memory.tell(&|| Delivery::Drain(spread)),
        }
    }

    /// Tells every connection of this process that the time to finish is over.
    pub fn expire(&self) {
        match self {
            Self::Memory(memory) => memory.tell(&|| Delivery::Expire),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_unlike_and_read_back() {
        let id = ConnectionId::random().expect("random");
        let text = id.reveal();
        assert_eq!(text.len(), 64);
        assert_eq!(ConnectionId::parse(&text), Some(id.clone()));
        assert_ne!(ConnectionId::random().expect("random"), id);
        for wrong in [
            "",
            "0",
            &text[1..],
            &format!("{text}0"),
            &text.replace(&text[..1], "x"),
            &"A".repeat(64),
            &"é".repeat(32),
        ] {
            assert_eq!(ConnectionId::parse(wrong), None, "{wrong}");
        }
        assert!(!format!("{id:?}").contains(&text[..8]));
    }
}
