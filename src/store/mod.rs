//! Who owns a connection, and how to hand it a message.
//!
//! A connection's stream lives in one process, its owner; whoever takes a POST asks the store to deliver it there. The
//! connections of this process are in its memory, whatever else there is (`memory`); what their clients call them, and how
//! a replica learns whose an id is, stands in `names`; `seal` is how replicas keep secrets with a shared key.

mod binding;
mod handover;
mod memory;
mod names;
mod redis;
pub mod seal;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::{Keys, Meeting, Replicas, hex, hexadecimal};
use crate::error::{Error, Kind, Side};
use crate::metrics::Metrics;
use crate::outlet::Outlet;
use crate::proto::bridge::Answer;
use crate::proto::jsonrpc::Message;
use crate::tap::{Head, Label};
use crate::upstream::Forwarded;
use memory::Memory;
use names::{Name, Names};
use seal::Sealer;

pub use crate::config::ReplicaId;
pub use binding::{Binding, Claim};
pub use handover::{
    ACK_GRACE, ARRIVALS, Arrived, HandOverError, Handed, MAX_ENTRY, MAX_HANDED, Method, Reply,
    StoreHealth,
};

/// Deliveries that wait for one connection; the next POST waits with them.
pub const MAILBOX: usize = 4;

/// The name of a connection: 256 random bits. Whoever knows it can post, so it is never logged: neither `Debug` nor
/// `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionId([u8; Self::LENGTH]);

impl ConnectionId {
    /// Bytes that an id has.
    pub const LENGTH: usize = 32;

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
        let capitals = text.bytes().any(|digit| digit.is_ascii_uppercase());
        hex(text).filter(|_| !capitals).map(Self)
    }

    /// The id in hexadecimal, for the one client that owns it.
    #[must_use]
    pub fn reveal(&self) -> String {
        hexadecimal(&self.0)
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
    /// What people call it.
    pub label: Label,
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

/// Where the connection is that an id names.
#[derive(Debug)]
pub enum Place {
    /// In this process.
    Here(ConnectionId, Recipient),
    /// In another replica, if it is still there.
    Elsewhere {
        /// That one.
        owner: ReplicaId,
        /// What it calls the connection.
        id: ConnectionId,
    },
    /// Nowhere: it has ended, or never was, or is none of this front.
    Unknown,
}

/// Where connections are registered, and how those of other replicas are reached.
#[derive(Debug)]
pub struct Store {
    /// The connections of this process.
    here: Memory,
    names: Names,
    others: Others,
}

/// The ways to other replicas.
#[derive(Debug)]
enum Others {
    /// There are none.
    None,
    /// They meet in a Redis.
    Redis(Box<redis::Redis>),
}

impl Store {
    /// An empty store. Where replicas meet somewhere, this one takes its place there.
    ///
    /// # Errors
    /// When they cannot meet where they are to, for a reason that the operator has to know; or when the system has no
    /// randomness to give.
    pub async fn open(replicas: &Replicas, metrics: &Arc<Metrics>) -> Result<Self, Error> {
        let mut store = Self::alone(replicas).map_err(|error| {
            Error::new(Side::Internal, Kind::Start).because(format!("no randomness: {error}"))
        })?;
        if let (Meeting::Redis(address), Names::Sealed { sealer, own }) =
            (&replicas.store, &store.names)
        {
            let wrong = |why: String| {
                Error::new(Side::Config, Kind::Store(address.to_string())).because(why)
            };
            let redis = redis::Redis::connect(
                address.as_ref().clone(),
                replicas.store_prefix.clone(),
                replicas.store_timeout,
                Arc::clone(sealer),
                own.clone(),
                Arc::clone(metrics),
            );
            let redis = Box::pin(redis).await.map_err(wrong)?;
            store.others = Others::Redis(Box::new(redis));
        }
        Ok(store)
    }

    /// An empty store that meets nobody, wherever others do.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn alone(replicas: &Replicas) -> Result<Self, getrandom::Error> {
        let names = |keys: &Keys| -> Result<Names, getrandom::Error> {
            Ok(Names::Sealed {
                sealer: Arc::new(Sealer::new(keys)?),
                own: replicas.id.clone().map_or_else(ReplicaId::random, Ok)?,
            })
        };
        Ok(Self {
            here: Memory::default(),
            others: Others::None,
            names: replicas.keys.as_ref().map_or(Ok(Names::Plain), names)?,
        })
    }

    /// Registers a connection with its owner's mailbox, and who may use it.
    pub fn claim(
        &self,
        id: ConnectionId,
        label: Label,
        mailbox: Mailbox,
        binding: Binding,
        front: Front,
    ) {
        let recipient = Recipient {
            mailbox,
            binding: Arc::new(binding),
            label,
            front,
        };
        self.here.claim(id, recipient);
    }

    /// Forgets a connection: from now on its id is unknown.
    pub fn release(&self, id: &ConnectionId) {
        self.here.release(id);
    }

    /// What the client of this connection is to call it.
    #[must_use]
    pub fn reveal(&self, id: &ConnectionId, front: Front) -> String {
        self.names.write(id, front)
    }

    /// Finds the connection that a client of this front names. Asks nobody.
    #[must_use]
    pub fn place(&self, text: &str, front: Front) -> Place {
        match self.names.read(text, front) {
            Some(Name { owner: None, id }) => match self.find(&id, front) {
                Some(recipient) => Place::Here(id, recipient),
                None => Place::Unknown,
            },
            Some(Name {
                owner: Some(owner),
                id,
            }) => Place::Elsewhere { owner, id },
            None => Place::Unknown,
        }
    }

    /// Whether this could be what a client calls its connection; without keys that shows in its form.
    #[must_use]
    pub fn may_be_name(&self, text: &str) -> bool {
        match &self.names {
            Names::Plain => ConnectionId::parse(text).is_some(),
            Names::Sealed { .. } => true,
        }
    }

    /// Finds a connection of this process. `None` when the id is unknown on this front.
    #[must_use]
    pub fn find(&self, id: &ConnectionId, front: Front) -> Option<Recipient> {
        let found = self.here.find(id);
        found.filter(|recipient| recipient.front == front)
    }

    /// The name of this replica, where replicas share keys.
    #[must_use]
    pub fn replica(&self) -> Option<&ReplicaId> {
        match &self.names {
            Names::Plain => None,
            Names::Sealed { own, .. } => Some(own),
        }
    }

    /// What seals with the keys that replicas share, if they share any.
    #[must_use]
    pub fn sealer(&self) -> Option<&Arc<Sealer>> {
        match &self.names {
            Names::Plain => None,
            Names::Sealed { sealer, .. } => Some(sealer),
        }
    }

    /// Hands a request to the replica that owns its connection, and waits for the answer: for `request.hold` and
    /// [`ACK_GRACE`], twice that when its owner turns out to be another process than was known. Getting it there takes
    /// `--store-timeout` at most, and some seconds more while the owner's heartbeat is missing.
    ///
    /// # Errors
    /// When there is no answer, or none to come.
    pub async fn hand_over(
        &self,
        owner: &ReplicaId,
        request: Handed,
    ) -> Result<Reply, HandOverError> {
        match &self.others {
            Others::None => Err(HandOverError::OwnerGone),
            Others::Redis(redis) => redis.hand_over(owner, &request).await,
        }
    }

    /// What other replicas hand over to this one, for the server to take. `None` when there are no others, and from the
    /// second call on.
    #[must_use]
    pub fn arrivals(&self) -> Option<mpsc::Receiver<Arrived>> {
        match &self.others {
            Others::None => None,
            Others::Redis(redis) => redis.arrivals(),
        }
    }

    /// Whether requests can be handed over.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        match &self.others {
            Others::None => StoreHealth::Good,
            Others::Redis(redis) => redis.health(),
        }
    }

    /// Whether requests can be handed over; `None` where there is nobody to hand them to.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        match &self.others {
            Others::None => None,
            Others::Redis(redis) => Some(redis.health() == StoreHealth::Good),
        }
    }

    /// Says to the other replicas that this one, and with it every connection that it had, is gone. Called when the
    /// last connection has ended.
    pub async fn leave(&self) {
        match &self.others {
            Others::None => {}
            Others::Redis(redis) => redis.leave().await,
        }
    }

    /// Tells every connection of this process that it is to finish; the idle ones end spread over the given time.
    pub fn drain(&self, spread: Duration) {
        self.here.tell(&|| Delivery::Drain(spread));
    }

    /// Tells every connection of this process that the time to finish is over.
    pub fn expire(&self) {
        self.here.tell(&|| Delivery::Expire);
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
