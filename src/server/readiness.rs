//! Whether new clients should be sent here, in words: the rule of `/readyz`.
//!
//! The admin listener's is the whole rule: not while the process is leaving, and not while the upstream cannot be reached.
//! The public listener's is its first half, because a server that restarts should not take its ferry out of a balancer,
//! where the ferry would have waited for it.

use std::sync::atomic::Ordering;

use hyper::{Response, StatusCode};

use super::body::Body;
use super::respond::Refused;
use super::{Server, respond};
use crate::metrics::{Levels, TapLevels};
use crate::store::StoreHealth;
use crate::tap::Tap;

impl Server {
    /// The public listener's answer.
    pub(super) fn readiness(&self) -> Response<Body> {
        if self.leaving.load(Ordering::Acquire) {
            respond::text(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n")
        } else {
            // Without the reason: what the Redis says of itself is not for everybody.
            respond::text(StatusCode::OK, self.ready_text(false))
        }
    }

    /// The whole rule.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn ready(&self) -> Result<(), String> {
        if self.leaving.load(Ordering::Acquire) {
            return Err("shutting down".to_owned());
        }
        let upstream = &self.shared.upstream;
        upstream.reach().await.map_err(|why| {
            format!(
                "the upstream {} cannot be reached ({why})",
                upstream.shown()
            )
        })
    }

    /// What is said of a process that is ready. One that cannot reach the others is ready for its own connections, and
    /// taking it out of a balancer, with all the others that cannot either, would end those. `why` says the reason too.
    pub(super) fn ready_text(&self, why: bool) -> String {
        match self.shared.store.health() {
            StoreHealth::Good => "ready\n".to_owned(),
            StoreHealth::Degraded(reason) if why => {
                format!("ready, degraded: other replicas cannot be reached ({reason})\n")
            }
            StoreHealth::Degraded(_) => {
                "ready, degraded: other replicas cannot be reached\n".to_owned()
            }
        }
    }

    /// Counts a request that the ferry refuses itself.
    pub(super) fn count_refusal(&self, refused: &Refused) {
        self.shared.metrics.refusals.add(refused.reason(), 1);
    }

    /// What is open and held now, for a scrape.
    pub(super) fn levels(&self, tap: Option<&Tap>) -> Levels {
        let shared = &self.shared;
        Levels {
            started: self.started,
            sockets: self.sockets.open(),
            passing: self.passing.open(),
            buffered: shared.budget.held(),
            buffered_limit: shared.limits.max_buffered,
            draining: self.leaving.load(Ordering::Acquire),
            upstream_up: shared.upstream.is_up(),
            store_up: shared.store.is_up(),
            upstream_era: shared.upstream.era(),
            tap: tap.map(tap_levels).unwrap_or_default(),
        }
    }
}

fn tap_levels(tap: &Tap) -> TapLevels {
    let state = tap.state();
    TapLevels {
        watchers: state.watchers,
        records: state.records,
        bytes: state.bytes,
        missed: state.missed,
    }
}

/// The present in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a metric that tells the wall time"
)]
pub(super) fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
