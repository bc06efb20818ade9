//! One client's connection as a task, from its first request until the farewell to the upstream is over.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `core` | what every connection has: the bridge, its times, the POSTs that wait for a status |
//! | `timing` | what its requests take and how they end, for the metrics |
//! | `outcome` | how one of them ended |
//! | `presence` | its place in the count of open connections |
//! | `exchanges` | the bridge's exchanges with the upstream |
//! | `stream` | the client of the legacy transport: one stream on a socket of its own |
//! | `session` | the client of Streamable HTTP before an upstream that does not know its revision: a stream for each request |
//! | `wire` | the socket of a `stream` |
//! | `event_ids` | what the client of a `stream` carries to its next one, sealed |
//! | `responses` | the open responses of a `session` |
//! | `backlog` | what waits for a `session`'s client to listen |
//!
//! Nothing here knows a rule of the protocol: those are the bridge's.

mod backlog;
mod core;
mod event_ids;
mod exchanges;
mod outcome;
mod presence;
mod responses;
mod session;
mod stream;
mod timing;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::error;

use crate::budget::{Budget, Pressure};
use crate::config::Limits;
use crate::metrics::{Counter, Metrics};
use crate::store::{Binding, ConnectionId, Front, Mailbox, Store};
use crate::tap::record::Front as Came;
use crate::tap::{Bus, Crossing, Head, Label};
use crate::upstream::Upstream;
pub use backlog::{MAX_BACKLOG, MAX_BACKLOG_BYTES};
pub use event_ids::carried;
pub use session::{Beginning, begin};
pub use stream::{Opening, open};

/// How long a client may read nothing while memory is short, if this much waits for it.
pub(crate) const SHORT_STALL: Duration = Duration::from_secs(1);
const SHORT_STALL_BYTES: usize = 64 * 1024;

/// How long a client may take to read what was left for it when everything else was over.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What every connection of a process shares.
#[derive(Debug)]
pub struct Shared {
    /// The MCP server behind.
    pub upstream: Arc<Upstream>,
    /// Where connections are registered.
    pub store: Store,
    /// Where what crosses is shown.
    pub bus: Arc<Bus>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What connections hold in memory together.
    pub budget: Arc<Budget>,
    /// The operator's limits.
    pub limits: Limits,
}

impl Shared {
    /// How long a client for whom `waiting` bytes wait may read nothing.
    pub(crate) fn patience(&self, waiting: usize) -> Duration {
        let limit = self.limits.client_stall_timeout;
        if waiting > SHORT_STALL_BYTES && self.budget.pressure() == Pressure::Critical {
            limit.min(SHORT_STALL)
        } else {
            limit
        }
    }
}

/// Keeps a connection known while its client is there, and counts its end, even if its task panics: then its streams
/// end with it, which tells the client, and every other connection goes on.
#[derive(Debug)]
struct Registration {
    shared: Arc<Shared>,
    id: ConnectionId,
    label: Label,
}

impl Registration {
    fn new(
        shared: &Arc<Shared>,
        id: ConnectionId,
        label: Label,
        front: Came,
        peer: IpAddr,
        head: Option<Arc<Head>>,
    ) -> Self {
        shared.metrics.add(Counter::ConnectionsOpened);
        let opened = || Crossing::Opened { front, peer, head };
        shared.bus.always(label, opened);
        Self {
            shared: Arc::clone(shared),
            id,
            label,
        }
    }

    /// Makes the connection known.
    fn claim(&self, mailbox: Mailbox, binding: Binding, front: Front) {
        let store = &self.shared.store;
        store.claim(self.id.clone(), self.label, mailbox, binding, front);
    }

    /// From now on the connection is unknown.
    fn release(&self) {
        self.shared.store.release(&self.id);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.metrics.add(Counter::Panics);
            error!(label = %self.label, "a bug: this connection's task panicked; its streams are closed, the others go on");
        }
        self.release();
        self.shared.metrics.add(Counter::ConnectionsClosed);
        self.shared.bus.always(self.label, || Crossing::Closed);
    }
}

/// The present, as the bridge takes it. It follows tokio's clock, so that tests can stop it.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}
