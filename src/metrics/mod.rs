//! What the process counts and measures, and how Prometheus reads it.
//!
//! Counting is one atomic operation, and a call takes a few of them; nothing here locks, waits or allocates. Closed sets
//! only: a counter is a variant of [`Counter`], a label a variant in [`labels`], never an id or a name that a peer chose, so
//! the set of series is bounded by this module. What others know at the moment of a scrape (how many sockets are open)
//! comes in as [`Levels`]. Nothing here knows HTTP.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `labels` | the closed sets |
//! | `cells` | numbers and histograms by label |
//! | `catalogue` | every metric: its name, unit, labels and meaning |
//! | `families` | what a metric is |
//! | `exposition` | all of it as OpenMetrics text, and as the README's table |

mod catalogue;
mod cells;
mod exposition;
mod families;
pub mod labels;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::bridge::Counted;
pub use cells::{Cells, Histogram};
pub use exposition::{CONTENT_TYPE, table, text};
pub use families::{Levels, TapLevels};
use labels::{
    Direction, Front, HandedOver, Leg, Method, Outcome, Reason, Single, Speaks, State, Status,
    TakenOver,
};

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Legacy streams opened.
    ConnectionsOpened,
    /// Legacy streams whose farewell is over.
    ConnectionsClosed,
    /// Legacy streams refused because of a cap.
    ConnectionsRefused,
    /// Sockets refused because of a cap, or because the system had no descriptor.
    SocketsRefused,
    /// POSTs refused because their address asked for unknown connections too often.
    MissesRefused,
    /// Tasks that ended in a panic: bugs.
    Panics,
    /// POSTs of legacy clients.
    Posts,
    /// Messages put on legacy streams.
    Delivered,
    /// Messages for the client of a session that had nowhere to go: a notification while too many waited for it to
    /// listen, the outcome of a call that it had left.
    Undelivered,
    /// Exchanges started upstream on behalf of legacy clients.
    UpstreamCalls,
    /// Requests passed through unchanged.
    PassedThrough,
    /// Clients closed because they did not read.
    StalledClients,
    /// See [`Counted::LateAnswer`].
    LateAnswers,
    /// See [`Counted::InvalidUpstreamMessage`].
    InvalidUpstreamMessages,
    /// See [`Counted::StrayClientMessage`].
    StrayClientMessages,
    /// See [`Counted::ImplicitHandshake`].
    ImplicitHandshakes,
    /// See [`Counted::Reinitialize`].
    Reinitializes,
    /// See [`Counted::Resume`].
    Resumes,
    /// Streams that began with what their clients carried from another one.
    Recalls,
    /// `Last-Event-ID`s of legacy clients that were ignored.
    StrayEventIds,
    /// See [`Counted::NotCarried`].
    NotCarried,
    /// See [`Counted::ListenReopened`].
    ListenReopened,
    /// See [`Counted::EraChanged`].
    EraChanges,
    /// See [`Counted::Retry`].
    Retries,
    /// See [`Counted::FerryError`].
    FerryErrors,
    /// Failures of what replicas meet in: connections that broke or were refused, answers that did not come.
    StoreErrors,
    /// Records that the tap's file is missing because they could not be written.
    TapFileLost,
}

const COUNTERS: usize = Counter::TapFileLost as usize + 1;

/// What one process has counted.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: [AtomicU64; COUNTERS],
    /// Connections that are open now.
    pub connections: Cells<(Front, Speaks, State), AtomicU64>,
    /// Requests of clients that have had their outcome.
    pub requests: Cells<(Method, Outcome), AtomicU64>,
    /// Requests of clients that have had none yet.
    pub in_flight: Cells<Single, AtomicU64>,
    /// From a request's coming to its outcome's going.
    pub client_time: Cells<Method, Histogram>,
    /// Of that, from the beginning of its first exchange with the server to the arrival of its outcome.
    pub upstream_time: Cells<Method, Histogram>,
    /// Of that, the rest.
    pub own_time: Cells<Method, Histogram>,
    /// Bytes of messages of translated connections.
    pub bytes: Cells<(Leg, Direction), AtomicU64>,
    /// HTTP requests that the ferry refused itself.
    pub refusals: Cells<Reason, AtomicU64>,
    /// Passed-through requests that were answered.
    pub passed: Cells<Status, AtomicU64>,
    /// Until the head of their answers.
    pub passed_head: Cells<Status, Histogram>,
    /// Until the end of their answers.
    pub passed_whole: Cells<Status, Histogram>,
    /// Bytes of their bodies, and of their answers'.
    pub passed_bytes: Cells<Direction, AtomicU64>,
    /// Requests for connections of other replicas.
    pub handed_over: Cells<HandedOver, AtomicU64>,
    /// What other replicas have put into this one's inbox.
    pub taken_over: Cells<TakenOver, AtomicU64>,
}

impl Metrics {
    /// Counts one.
    pub fn add(&self, counter: Counter) {
        if let Some(counter) = self.counters.get(counter as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters
            .get(counter as usize)
            .map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

impl From<Counted> for Counter {
    fn from(counted: Counted) -> Self {
        match counted {
            Counted::LateAnswer => Self::LateAnswers,
            Counted::InvalidUpstreamMessage => Self::InvalidUpstreamMessages,
            Counted::StrayClientMessage => Self::StrayClientMessages,
            Counted::ImplicitHandshake => Self::ImplicitHandshakes,
            Counted::Reinitialize => Self::Reinitializes,
            Counted::Resume => Self::Resumes,
            Counted::ListenReopened => Self::ListenReopened,
            Counted::Retry => Self::Retries,
            Counted::FerryError => Self::FerryErrors,
            Counted::EraChanged => Self::EraChanges,
            Counted::NotCarried => Self::NotCarried,
        }
    }
}
