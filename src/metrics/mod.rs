//! What the process counts. Closed sets only: a counter is a variant of [`Counter`], never an id or a name that a peer
//! chose, so the set of series is bounded by this file.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proto::bridge::Counted;

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
    /// See [`Counted::ListenReopened`].
    ListenReopened,
    /// See [`Counted::EraChanged`].
    EraChanges,
    /// See [`Counted::Retry`].
    Retries,
    /// See [`Counted::FerryError`].
    FerryErrors,
}

const COUNTERS: usize = Counter::FerryErrors as usize + 1;

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: [AtomicU64; COUNTERS],
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
        }
    }
}
